// Counts what a forward pass costs a GPU before it computes anything: kernel launches,
// and bytes of intermediate results that kernels read and write. It builds the graph
// of every variant for all-MiniLM-L6-v2's sizes in float16 and walks it. The table is
// in docs/dev/metal.md:
//
//   launches FILE            compares the table with the one in the file
//   launches FILE --update   writes it there
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "evaluator.h"
#include "mlx/c/private/array.h"
#include "mlx/primitives.h"
#include "mlx/transforms.h"
#include "random_model.h"

using namespace mlxrank;
namespace mx = mlx::core;

namespace {

constexpr int most_launches = 70;
constexpr double most_bytes = 0.6; // of the reference's

struct Cost {
  int launches = 0;
  double bytes = 0;
};

// The nodes of a graph, inputs before outputs.
struct Tape {
  void visit(const mx::array &a) {
    if (!a.has_primitive() || !seen.insert(a.id()).second) {
      return;
    }
    for (const mx::array &input : a.inputs()) {
      visit(input);
    }
    names.push_back(a.primitive().name());
    inputs.push_back(a.inputs());
    nodes.push_back(a);
  }

  std::set<std::uintptr_t> seen;
  std::vector<std::string> names;
  std::vector<std::vector<mx::array>> inputs;
  std::vector<mx::array> nodes;
};

const std::set<std::string> views = {"AsStrided", "Broadcast", "Copy",     "ExpandDims",
                                     "Slice",     "Squeeze",   "Transpose"};
// A view, or a copy if its input's memory is in another order.
const std::set<std::string> perhaps_views = {"Contiguous", "Flatten", "Reshape", "Unflatten"};

// Layout has what MLX decides as it evaluates, by the order of memory alone: a graph of
// few tokens shows it.
struct Layout {
  std::vector<bool> views; // the node is a view
  std::vector<std::vector<bool>> copied; // the input is copied for our kernel
};

Layout layout_of(const Tape &small) {
  Layout layout;
  mx::eval(small.nodes.back());
  for (size_t i = 0; i < small.nodes.size(); i++) {
    const bool perhaps = perhaps_views.count(small.names[i]) > 0;
    layout.views.push_back(
        views.count(small.names[i]) > 0 ||
        (perhaps && small.nodes[i].data_shared_ptr() == small.inputs[i][0].data_shared_ptr()));
    layout.copied.emplace_back();
    for (const mx::array &input : small.inputs[i]) {
      layout.copied.back().push_back(small.names[i].starts_with("Metal") &&
                                     !input.flags().row_contiguous);
    }
  }
  return layout;
}

class Counter {
 public:
  Counter(const Tape &tape, const Layout &layout)
      : tape_(tape), layout_(layout), views_(layout.views) {
    for (size_t i = 0; i < tape.nodes.size(); i++) {
      index_[tape.nodes[i].id()] = i;
    }
  }

  Cost count() {
    for (size_t i = tape_.nodes.size(); i-- > 0;) {
      if (is_fused_attention(i)) {
        fuse(i);
      } else if (tape_.names[i] == "Add" && inside_.count(i) == 0) {
        fuse_norm(i);
      }
    }
    for (size_t i = 0; i < tape_.nodes.size(); i++) {
      if (!views_[i] && inside_.count(i) == 0) {
        add(i);
      }
    }
    return cost_;
  }

 private:
  bool is(const mx::array &a, const char *name) const {
    return a.has_primitive() && std::strcmp(a.primitive().name(), name) == 0;
  }

  // The CPU backend writes attention as softmax(where(mask, (scale q) k^T)) v. Metal has
  // one kernel for it for head size 64 and more than 8 queries; for smaller heads it
  // runs the same five kernels (mlx/fast.cpp, has_fused_kernel of
  // mlx/backend/metal/scaled_dot_product_attention.cpp).
  bool is_fused_attention(size_t i) const {
    const auto &in = tape_.inputs[i];
    return tape_.names[i] == "Matmul" && is(in[0], "Softmax") && in[1].shape(-1) == 64 &&
           in[0].shape(-2) > 8;
  }

  void fuse(size_t i) {
    const mx::array softmax = tape_.inputs[i][0], select = inputs_of(softmax)[0];
    const mx::array mask = inputs_of(select)[0], product = inputs_of(select)[1];
    const mx::array scaled = inputs_of(product)[0], keys = inputs_of(product)[1];
    const mx::array query = inputs_of(scaled)[1];
    for (const mx::array &a : {softmax, select, product, scaled, tape_.nodes[i]}) {
      inside_.insert(index_.at(a.id()));
    }
    cost_.launches++;
    cost_.bytes += bytes(query) + bytes(keys) + bytes(tape_.inputs[i][1]) + bytes(mask) +
                   static_cast<double>(tape_.nodes[i].nbytes());
  }

  // The CPU backend writes LayerNorm as a dozen operations from a conversion to float32
  // to the addition of the bias. Metal has one kernel for it.
  void fuse_norm(size_t i) {
    std::set<size_t> nodes;
    std::vector<size_t> rows;
    bool norm = false;
    collect_norm(i, &nodes, &rows, &norm);
    if (!norm || rows.size() != 1) {
      return;
    }
    inside_.insert(nodes.begin(), nodes.end());
    cost_.launches++;
    cost_.bytes += bytes(tape_.inputs[rows[0]][0]) + static_cast<double>(tape_.nodes[i].nbytes());
  }

  // Collects the nodes from i back to conversions to float32, which are rows, and
  // reports in norm whether one is a reciprocal square root.
  void collect_norm(size_t i, std::set<size_t> *nodes, std::vector<size_t> *rows, bool *norm) {
    static const std::set<std::string> parts = {
        "Add",   "AsType", "Broadcast", "Divide",  "ExpandDims", "Multiply", "Power",
        "Rsqrt", "Square", "Squeeze",   "Reshape", "Subtract",   "Reduce",   "Sum"};
    if (!nodes->insert(i).second) {
      return;
    }
    *norm = *norm || tape_.names[i] == "Rsqrt";
    if (tape_.names[i] == "AsType" && tape_.nodes[i].dtype() == mx::float32) {
      rows->push_back(i);
      return;
    }
    for (const mx::array &a : tape_.inputs[i]) {
      if (a.has_primitive() && parts.count(a.primitive().name()) > 0) {
        collect_norm(index_.at(a.id()), nodes, rows, norm);
      } else if (a.has_primitive()) {
        rows->insert(rows->end(), {i, i}); // not a norm
      }
    }
  }

  void add(size_t i) {
    const std::string &name = tape_.names[i];
    const mx::array &out = tape_.nodes[i];
    const auto &in = tape_.inputs[i];
    const double written = static_cast<double>(out.nbytes());
    cost_.launches++;
    cost_.bytes += written;
    if (name == "Gather") { // reads the chosen rows only
      cost_.bytes += bytes(in[0]) > 0 ? written : 0;
      return;
    }
    std::set<std::uintptr_t> read;
    for (const mx::array &a : in) {
      cost_.bytes += read.insert(a.id()).second ? bytes(a) : 0;
    }
    for (size_t k = 0; k < in.size(); k++) {
      if (layout_.copied[i][k]) {
        cost_.launches++;
        cost_.bytes += 2 * bytes(in[k]);
      }
    }
    if (name == "Pad") { // fills, then copies
      cost_.launches++;
      cost_.bytes += bytes(in[0]);
    } else if (name == "AddMM" && is_split(in[0], out)) {
      // Two kernels with partial sums in float32; their number is at least 2.
      cost_.launches++;
      cost_.bytes += 2 * 2 * 4.0 * static_cast<double>(out.size());
    }
  }

  // Reports whether Metal splits a matmul along its inner dimension, on the chips that
  // do so the most (mlx/backend/metal/matmul.cpp, Case 1).
  static bool is_split(const mx::array &a, const mx::array &out) {
    const int m = out.shape(0), n = out.shape(1), k = a.shape(1);
    return (m + 15) / 16 * ((n + 15) / 16) <= 2048 && k / 16 >= 8 && k >= std::max(m, n);
  }

  const std::vector<mx::array> &inputs_of(const mx::array &a) const {
    return tape_.inputs[index_.at(a.id())];
  }

  // Returns the bytes of an intermediate result, 0 for weights, ids and constants.
  double bytes(const mx::array &a) const {
    mx::array root = a;
    bool stored = false; // a view of something stored has at most its bytes
    double least = static_cast<double>(a.nbytes());
    while (root.has_primitive() && views_[index_.at(root.id())]) {
      root = inputs_of(root)[0];
      if (is(a, "Broadcast")) {
        least = std::min(least, static_cast<double>(root.nbytes()));
      }
    }
    stored = root.has_primitive();
    return stored ? least : 0;
  }

  const Tape &tape_;
  const Layout &layout_;
  const std::vector<bool> &views_;
  std::map<std::uintptr_t, size_t> index_;
  std::set<size_t> inside_; // nodes within fused attention
  Cost cost_;
};

Tape tape_of(const Model &model, const Variant &variant, int pairs, int length, mlx_stream stream) {
  const Batch batch = random_batch(model.config, variant, std::vector<int32_t>(pairs, length), 0);
  const Array logits = forward(model, variant, batch, stream);
  Tape tape;
  tape.visit(mlx_array_get_(logits));
  return tape;
}

Cost cost_of(const Model &model, const Variant &variant, int pairs, int length) {
  Cost cost;
  run_for(model, [&](mlx_stream stream) {
    const Tape small = tape_of(model, variant, 2, 32, stream);
    const Layout layout = layout_of(small);
    const Tape tape = tape_of(model, variant, pairs, length, stream);
    if (tape.names != small.names) {
      throw Error(MLXRANK_MLX, "graphs of different sizes have different operations");
    }
    cost = Counter(tape, layout).count();
  });
  return cost;
}

struct Shape {
  int pairs, length;
};

// Returns the table in Markdown, and reports whether the bounds hold.
std::string table_of(const Model &model, bool *holds) {
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(0);
  out << "| variant | 20 x 128: launches, MB | 64 x 256 | 32 x 512 |\n|---|---|---|---|\n";
  std::vector<Cost> reference;
  *holds = false;
  for (const Variant &variant : variants_of(model)) {
    out << "| `" << variant.name << "` |";
    bool bounded = true;
    size_t column = 0;
    for (const Shape &s : {Shape{20, 128}, {64, 256}, {32, 512}}) {
      const Cost cost = cost_of(model, variant, s.pairs, s.length);
      if (reference.size() <= column) {
        reference.push_back(cost);
      }
      const double share = cost.bytes / reference[column].bytes;
      out << " " << cost.launches << ", " << cost.bytes / 1e6 << " (" << 100 * share << " %) |";
      bounded = bounded && cost.launches <= most_launches && share <= most_bytes;
      column++;
    }
    out << "\n";
    *holds = *holds || bounded;
  }
  return out.str();
}

constexpr char begin[] = "<!-- launches: begin -->\n", end[] = "<!-- launches: end -->";

int compare(const std::string &file, const std::string &table, bool update) {
  std::ifstream in(file);
  std::stringstream whole;
  whole << in.rdbuf();
  std::string text = whole.str();
  const size_t from = text.find(begin), to = text.find(end);
  if (from == std::string::npos || to == std::string::npos) {
    std::fprintf(stderr, "%s has no table of launches\n", file.c_str());
    return 1;
  }
  const size_t first = from + std::strlen(begin);
  if (update) {
    std::ofstream(file) << text.replace(first, to - first, table);
  } else if (text.substr(first, to - first) != table) {
    std::fprintf(stderr, "%s is out of date; run this test with --update. It should be:\n%s",
                 file.c_str(), table.c_str());
    return 1;
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: launches FILE [--update]\n");
    return 2;
  }
  setenv("MLXRANK_UNFUSED_GRAPH", "1", 1);
  install_error_handler();
  mlxrank_config c = config_of(12, 32, 6);
  c.dtype = MLXRANK_FLOAT16;
  c.intermediate_size = 1536;
  c.max_positions = 1024; // so that 512 positions are a slice of them, as fewer are
  std::mt19937 random(1);
  bool holds = false;
  const std::string table = table_of(*random_model(c, random), &holds);
  std::printf("%s", table.c_str());
  if (!holds) {
    std::fprintf(stderr, "no variant has at most %d launches and %g of the reference's bytes\n",
                 most_launches, most_bytes);
    return 1;
  }
  return compare(argv[1], table, argc > 2 && std::string(argv[2]) == "--update");
}
