// Measures what MLX and our kernels do on a device, for `make verify-mac`. It prints
// one JSON object:
//
//   measure cpu|gpu [--quick] [--variant NAME]
//       times, each of a group in turn (A B A B ...); passes are of this variant
//   measure cpu|gpu --fault KIND
//       what becomes of work that fails on the device
//
// KIND is inverse on the CPU, write or read on a GPU.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "evaluator.h"
#include "info.h"
#include "layer_ops.h"
#include "metal_kernels.h"
#include "ops.h"
#include "random_model.h"

using namespace mlxrank;

namespace {

using Clock = std::chrono::steady_clock;

// Sizes of all-MiniLM-L6-v2.
constexpr int heads = 12, head_size = 32, hidden = heads * head_size, inner = 4 * hidden;
constexpr int pass_length = 128;

struct Size {
  int square, triad; // anchors
  std::vector<int> tokens; // rows of a GEMM
  std::vector<int> widths, attention_tokens; // tokens by type: float32, float16
  std::vector<int> microbatches; // tokens
  int pass_pairs, chain, layers;
  double group_ms, sample_ms;
  size_t least, most; // rounds
};

Size size_of(bool gpu, bool quick) {
  if (!gpu) { // a rehearsal; float16 is emulated there
    Size s = {512, 1 << 20, {64, 320}, {32, 64, 128}, {512, 128}, {256, 512, 1024}, 4, 200, 2, 200,
              2,   3,       7};
    if (!quick) {
      s.tokens.push_back(2560);
      s.widths.push_back(512);
      s.group_ms = 2000;
    }
    return s;
  }
  Size s = {4096,
            1 << 25,
            {64, 320, 2560, 16384},
            {32, 64, 96, 128, 192, 256, 512},
            {16384, 16384},
            {1024, 2048, 4096, 8192, 16384, 32768},
            20,
            1000,
            6,
            2500,
            10,
            5,
            41};
  if (quick) {
    s.tokens = {320, 16384};
    s.widths = {32, 128, 512};
    s.microbatches = {2048, 8192, 32768};
    s.group_ms = 500;
    s.least = 3;
  }
  return s;
}

std::string quoted(const std::string &text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out + "\"";
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return std::isfinite(x) ? text : "null";
}

double percentile(const std::vector<double> &sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const size_t low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 0.5);
}

// A member of a group. sample returns microseconds of one unit of work.
struct Member {
  std::string name;
  std::function<double()> sample;
  double flops = 0, bytes = 0, tokens = 0; // of the unit; 0 if there are none
  std::function<double()> error = nullptr; // the largest difference from double precision
  std::string missing = ""; // why it cannot be measured
  bool has_peak = false; // measures the peak of MLX's memory
};

struct Row {
  std::vector<double> times;
  std::optional<double> error, peak;
  std::string missing;
};

class Report {
 public:
  // Measures the members in turn until the time of a group is over.
  void measure(int item, const std::string &group, const std::string &dtype,
               const std::vector<Member> &members) {
    std::vector<Row> rows;
    for (const Member &m : members) {
      Row row;
      row.missing = m.missing;
      attempt_to(&row, [&] {
        m.sample(); // compiles, and fills caches
        if (m.error) {
          row.error = m.error();
        }
      });
      rows.push_back(row);
    }
    const Clock::time_point start = Clock::now();
    for (size_t round = 0; round < size_.most; round++) {
      if (round >= size_.least && elapsed_us(start) > 1e3 * size_.group_ms) {
        break;
      }
      for (size_t i = 0; i < members.size(); i++) {
        attempt_to(&rows[i], [&] {
          if (members[i].has_peak) {
            check(mlx_reset_peak_memory(), "reset peak memory");
          }
          rows[i].times.push_back(members[i].sample());
          if (members[i].has_peak) {
            size_t peak = 0;
            check(mlx_get_peak_memory(&peak), "peak memory");
            rows[i].peak = std::max(rows[i].peak.value_or(0), static_cast<double>(peak));
          }
        });
      }
    }
    for (size_t i = 0; i < members.size(); i++) {
      write(item, group, dtype, members[i], rows[i]);
    }
    std::fprintf(stderr, "measure: %s %s\n", group.c_str(), dtype.c_str());
    mlx_clear_cache();
  }

  static double elapsed_us(Clock::time_point start) {
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  }

  explicit Report(const Size &size) : size_(size) {}

  std::string rows;

 private:
  template <class F>
  static void attempt_to(Row *row, F f) {
    if (row->missing.empty()) {
      if (const std::optional<Error> error = attempt(f)) {
        row->missing = error->what();
      }
    }
  }

  void write(int item, const std::string &group, const std::string &dtype, const Member &m,
             const Row &row) {
    auto put = [&](const char *key, const std::string &value) {
      rows += (rows.back() == '{' ? "" : ", ") + quoted(key) + ": " + value;
    };
    rows += rows.empty() ? "\n    {" : ",\n    {";
    put("item", std::to_string(item));
    put("group", quoted(group));
    put("name", quoted(m.name));
    put("dtype", quoted(dtype));
    const bool found = row.missing.empty() && !row.times.empty();
    std::vector<double> sorted = row.times, off;
    std::sort(sorted.begin(), sorted.end());
    put("n", std::to_string(found ? sorted.size() : 0));
    if (found) {
      const double median = percentile(sorted, 0.5);
      for (const double t : sorted) {
        off.push_back(std::fabs(t - median));
      }
      put("median_us", number(median));
      put("mad_us", number(median_of(off)));
      put("p5_us", number(percentile(sorted, 0.05)));
      put("p95_us", number(percentile(sorted, 0.95)));
    } else {
      put("median_us", "null");
      put("missing", quoted(row.missing));
    }
    const std::pair<const char *, double> figures[] = {{"flops", m.flops},
                                                       {"bytes", m.bytes},
                                                       {"tokens", m.tokens},
                                                       {"peak_bytes", row.peak.value_or(0)}};
    for (const auto &[key, value] : figures) {
      if (value > 0) {
        put(key, number(value));
      }
    }
    if (row.error) {
      put("error", number(*row.error));
    }
    rows += "}";
  }

  const Size size_;
};

void eval_all(const std::vector<Array> &arrays) {
  std::vector<mlx_array> handles(arrays.begin(), arrays.end());
  mlx_vector_array vector = mlx_vector_array_new_data(handles.data(), handles.size());
  const int status = mlx_eval(vector);
  mlx_vector_array_free(vector);
  check(status, "eval");
}

void synchronize(mlx_stream stream) { check(mlx_synchronize(stream), "synchronize"); }

struct Dtype {
  const char *name;
  int32_t model;
  mlx_dtype mlx;
  int bytes;
};
constexpr Dtype float32 = {"float32", MLXRANK_FLOAT32, MLX_FLOAT32, 4};
constexpr Dtype float16 = {"float16", MLXRANK_FLOAT16, MLX_FLOAT16, 2};

class Measurer {
 public:
  // models by the dtype's number. They are opened outside the job that measures, since
  // opening runs a job too.
  Measurer(bool gpu, const Size &size, const std::map<int32_t, const Model *> &models,
           const std::string &variant, mlx_stream stream)
      : report(size),
        gpu_(gpu),
        size_(size),
        models_(models),
        variant_(variant),
        stream_(stream),
        ops_(stream) {}

  void all() {
    anchors("anchors, first");
    for (const Dtype &dtype : {float16, float32}) {
      const Model *model = models_.at(dtype.model);
      if (gpu_ || dtype.model == MLXRANK_FLOAT32) {
        for (const int tokens : size_.tokens) {
          gemms(dtype, tokens);
          elementwise(*model, dtype, tokens);
        }
      }
      for (const int width : size_.widths) {
        attention(*model, dtype, width);
      }
      gelu(*model, dtype, dtype.bytes == 2 && !gpu_ ? 64 : size_.tokens.back());
    }
    // The default type of the device.
    const Dtype &dtype = gpu_ ? float16 : float32;
    const Model *model = models_.at(dtype.model);
    fixed_costs(*model, dtype);
    shapes(*model, dtype);
    microbatches(*model, dtype);
    streams(*model, dtype);
    anchors("anchors, last");
  }

  Report report;

 private:
  Array random(std::initializer_list<int> shape, const Dtype &dtype, unsigned seed = 1) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    size_t size = 1;
    for (const int n : shape) {
      size *= static_cast<size_t>(n);
    }
    std::vector<float> values(size);
    for (size_t i = 0; i < size; i++) {
      values[i] = i < 4096 ? normal(random) : values[i - 4096];
    }
    Array x = ops_.astype(array_of(values.data(), shape, MLX_FLOAT32), dtype.mlx);
    eval({&x});
    return x;
  }

  // A member that evaluates several independent results at once, so that the cost of
  // an evaluation does not count.
  Member repeated(const std::string &name, std::function<Array()> make, double flops, double bytes,
                  std::function<double()> error = nullptr) const {
    auto repeats = std::make_shared<size_t>(0);
    auto once = [make](size_t n) {
      const Clock::time_point start = Clock::now();
      std::vector<Array> results;
      for (size_t i = 0; i < n; i++) {
        results.push_back(make());
      }
      eval_all(results);
      return Report::elapsed_us(start) / static_cast<double>(n);
    };
    const double sample_us = 1e3 * size_.sample_ms;
    auto sample = [=] {
      if (*repeats == 0) {
        once(1); // compiles
        const double most = std::clamp(1e9 / std::max(bytes, 1.0), 1.0, 32.0);
        *repeats = static_cast<size_t>(std::clamp(sample_us / once(1), 1.0, most));
      }
      return once(*repeats);
    };
    return {name, sample, flops, bytes, 0, std::move(error)};
  }

  void anchors(const char *group) {
    for (const Dtype &dtype : {float16, float32}) {
      if (!gpu_ && dtype.model == MLXRANK_FLOAT16) {
        continue;
      }
      const int n = size_.square, m = size_.triad;
      auto a = std::make_shared<Array>(random({n, n}, dtype));
      auto bias = std::make_shared<Array>(random({n}, dtype));
      auto x = std::make_shared<Array>(random({m}, dtype));
      auto y = std::make_shared<Array>(random({m}, dtype));
      const double bytes = dtype.bytes;
      report.measure(
          1, group, dtype.name,
          {repeated(
               "GEMM " + std::to_string(n) + "^3", [=, this] { return ops_.linear(*a, *a, *bias); },
               2.0 * n * n * n, 3.0 * n * n * bytes),
           // As the triad of STREAM: two arrays are read, one is written.
           repeated("triad", [=, this] { return ops_.add(*x, *y); }, m, 3.0 * m * bytes)});
    }
  }

  void gemms(const Dtype &dtype, int tokens) {
    std::vector<Member> members;
    const std::pair<int, int> all[] = {
        {3 * hidden, hidden}, {hidden, hidden}, {inner, hidden}, {hidden, inner}};
    for (const auto &[out, in] : all) {
      auto x = std::make_shared<Array>(random({tokens, in}, dtype));
      auto w = std::make_shared<Array>(random({out, in}, dtype, 2));
      auto bias = std::make_shared<Array>(random({out}, dtype));
      const double size = 1.0 * tokens * in + 1.0 * out * in + 1.0 * tokens * out;
      members.push_back(repeated(
          std::to_string(in) + " to " + std::to_string(out),
          [=, this] { return ops_.linear(*x, *w, *bias); }, 2.0 * tokens * in * out,
          size * dtype.bytes));
    }
    report.measure(1, "GEMM, " + std::to_string(tokens) + " tokens", dtype.name, members);
  }

  void elementwise(const Model &model, const Dtype &dtype, int tokens) {
    const int width = std::min(tokens, pass_length), pairs = tokens / width;
    auto wide = std::make_shared<Array>(random({tokens, inner}, dtype));
    auto rows = std::make_shared<Array>(random({tokens, hidden}, dtype));
    auto scores = std::make_shared<Array>(random({pairs, heads, width, width}, dtype));
    auto split = std::make_shared<Array>(random({pairs, heads, width, head_size}, dtype));
    const Norm *norm = &model.embedding_norm;
    const double b = dtype.bytes, n = tokens;
    auto softmax = [=, this] {
      const int axes[] = {-1};
      return checked_call("softmax", mlx_softmax_axes, mlx_array(*scores), axes, size_t{1}, true,
                          stream_);
    };
    report.measure(
        1, "elementwise, " + std::to_string(tokens) + " tokens", dtype.name,
        {repeated(
             "GELU", [=, this, &model] { return gelu_chain(model, *wide); }, 0,
             2.0 * n * inner * b),
         repeated("softmax", softmax, 0, 2.0 * pairs * width * width * heads * b),
         repeated(
             "LayerNorm",
             [=, this] { return ops_.layer_norm(*rows, norm->weight, norm->bias, 1e-12f); }, 0,
             2.0 * n * hidden * b),
         repeated(
             "merge heads",
             [=, this] { return ops_.contiguous(ops_.transpose(*split, {0, 2, 1, 3})); }, 0,
             2.0 * n * hidden * b)});
  }

  // x/2 (1 + erf(x / sqrt 2)), as UnfusedOps does it.
  Array gelu_chain(const Model &model, const Array &x) const {
    const Constants &c = model.constants;
    const Array y = ops_.erf(ops_.multiply(x, c.rsqrt2));
    return ops_.multiply(ops_.multiply(x, c.half), ops_.add(y, c.one));
  }

  void attention(const Model &model, const Dtype &dtype, int width) {
    const int most = size_.attention_tokens[dtype.bytes == 2 ? 1 : 0];
    const int pairs = std::max(1, most / width), tokens = pairs * width;
    const std::pair<const char *, const char *> ways[] = {
        {"fallback", "reference"}, {"qpad", "qpad"}, {"own", "packed"}};
    auto qkv = std::make_shared<Array>(random({tokens, 3 * hidden}, dtype));
    std::vector<Member> members;
    for (const auto &[name, variant_name] : ways) {
      std::shared_ptr<Variant> variant;
      for (const Variant &v : variants_of(model)) {
        if (v.name == std::string(variant_name)) {
          variant = std::make_shared<Variant>(v);
        }
      }
      if (variant == nullptr) {
        members.push_back({name, nullptr, 0, 0, 0, nullptr,
                           "the variant " + std::string(variant_name) + " is not in this build"});
        continue;
      }
      auto batch = std::make_shared<Batch>(
          random_batch(model.config, *variant, std::vector<int32_t>(pairs, width), 0));
      std::shared_ptr<LayerOps> layer = unfused_ops(model, *variant, *batch, stream_);
      auto make = [=, &model] {
        (void)variant, (void)batch; // layer refers to them
        return layer->attention(model.layers[0], *qkv);
      };
      members.push_back(repeated(name, make, 4.0 * tokens * width * hidden,
                                 4.0 * tokens * hidden * dtype.bytes,
                                 [=, this] { return attention_error(*qkv, make(), width); }));
    }
    report.measure(2, "attention, width " + std::to_string(width), dtype.name, members);
  }

  std::vector<float> read(const Array &x) const {
    const Array y = ops_.contiguous(ops_.astype(x, MLX_FLOAT32));
    eval({&y});
    const float *data = mlx_array_data_float32(y);
    return std::vector<float>(data, data + mlx_array_size(y));
  }

  // Compares the first pair with attention in double precision.
  double attention_error(const Array &qkv, const Array &attended, int width) const {
    const std::vector<float> in = read(ops_.slice(qkv, 0, 0, width));
    const std::vector<float> out = read(ops_.slice(attended, 0, 0, width));
    double worst = 0;
    for (int head = 0; head < heads; head++) {
      for (int row = 0; row < width; row++) {
        auto at = [&](int part, int r) {
          return &in[static_cast<size_t>(r) * 3 * hidden + part * hidden + head * head_size];
        };
        std::vector<double> weights(width), sums(head_size);
        double total = 0, largest = -INFINITY;
        for (int key = 0; key < width; key++) {
          for (int d = 0; d < head_size; d++) {
            weights[key] += double{at(0, row)[d]} * at(1, key)[d] / std::sqrt(double{head_size});
          }
          largest = std::max(largest, weights[key]);
        }
        for (int key = 0; key < width; key++) {
          const double weight = std::exp(weights[key] - largest);
          total += weight;
          for (int d = 0; d < head_size; d++) {
            sums[d] += weight * at(2, key)[d];
          }
        }
        for (int d = 0; d < head_size; d++) {
          const float got = out[static_cast<size_t>(row) * hidden + head * head_size + d];
          const double off = std::fabs(got - sums[d] / total);
          worst = off <= worst ? worst : std::isnan(off) ? INFINITY : off;
        }
      }
    }
    return worst;
  }

  void gelu(const Model &model, const Dtype &dtype, int tokens) {
    auto x = std::make_shared<Array>(random({tokens, inner}, dtype));
    auto error = [=, this](const Array &y) {
      const std::vector<float> in = read(*x), out = read(y);
      double worst = 0;
      for (size_t i = 0; i < std::min<size_t>(in.size(), 4096); i++) {
        const double want = 0.5 * in[i] * std::erfc(-in[i] / std::sqrt(2.0));
        const double off = std::fabs(out[i] - want);
        worst = off <= worst ? worst : std::isnan(off) ? INFINITY : off;
      }
      return worst;
    };
    const double bytes = 2.0 * tokens * inner * dtype.bytes;
    auto member = [&](const char *name, std::function<Array()> make) {
      return repeated(name, make, 0, bytes, [=] { return error(make()); });
    };
    std::vector<Member> members = {
        member("chain", [=, this, &model] { return gelu_chain(model, *x); }),
        member("compiled", [=, compiled = compiled_gelu(model)] { return (*compiled)(*x); })};
    if (metal_kernels::support(model.config)) {
      members.push_back(member(
          "kernel", [=, this] { return metal_kernels::activation(*x, MLXRANK_GELU, stream_); }));
    } else {
      members.push_back({"kernel", nullptr, 0, 0, 0, nullptr, "this build has no kernels for it"});
    }
    report.measure(3, "GELU, " + std::to_string(tokens) + " tokens", dtype.name, members);
  }

  using Unary = std::function<Array(const Array &)>;

  // The chain by mlx_compile, for any shape.
  std::shared_ptr<Unary> compiled_gelu(const Model &model) const {
    auto *chain = new Unary([this, &model](const Array &x) { return gelu_chain(model, x); });
    auto call = [](mlx_vector_array *out, const mlx_vector_array in, void *payload) {
      const std::optional<Error> error = attempt([&] {
        mlx_array x{nullptr};
        check(mlx_vector_array_get(&x, in, 0), "argument");
        *out = mlx_vector_array_new_value((*static_cast<Unary *>(payload))(Array(x)));
      });
      return error ? 1 : 0;
    };
    mlx_closure plain = mlx_closure_new_func_payload(
        call, chain, [](void *payload) { delete static_cast<Unary *>(payload); });
    auto compiled = std::shared_ptr<mlx_closure>(new mlx_closure{nullptr}, [](mlx_closure *c) {
      mlx_closure_free(*c);
      delete c;
    });
    check(mlx_compile(compiled.get(), plain, true), "compile");
    mlx_closure_free(plain);
    return std::make_shared<Unary>([compiled](const Array &x) {
      mlx_vector_array in = mlx_vector_array_new_value(x), out = mlx_vector_array_new();
      int status = mlx_closure_apply(&out, *compiled, in);
      mlx_array y{nullptr};
      if (status == 0) {
        status = mlx_vector_array_get(&y, out, 0);
      }
      Array result(y);
      mlx_vector_array_free(in);
      mlx_vector_array_free(out);
      check(status, "compiled GELU");
      return result;
    });
  }

  // The variant that passes are measured with, and a batch of its layout.
  struct Pass {
    Variant variant;
    Batch batch;
  };

  std::shared_ptr<Pass> pass_of(const Model &model, std::vector<int32_t> lengths) const {
    Variant variant = find_variant(model, variant_);
    Batch batch = random_batch(model.config, variant, std::move(lengths), 0);
    return std::make_shared<Pass>(Pass{variant, std::move(batch)});
  }

  Array logits_of(const Model &model, const Pass &pass, mlx_stream stream) const {
    return forward(model, pass.variant, pass.batch, stream);
  }

  double pass_us(const Model &model, const Pass &pass) const {
    const Clock::time_point start = Clock::now();
    const Array logits = logits_of(model, pass, stream_);
    eval({&logits});
    synchronize(stream_);
    return Report::elapsed_us(start);
  }

  void fixed_costs(const Model &model, const Dtype &dtype) {
    auto small = std::make_shared<Array>(random({8}, dtype));
    auto empty = [=, this] {
      const Clock::time_point start = Clock::now();
      const Array y = ops_.add(*small, *small);
      eval({&y});
      return Report::elapsed_us(start);
    };
    const int chain = size_.chain;
    auto dependent = [=, this] {
      Array y = ops_.add(*small, *small);
      for (int i = 0; i < chain; i++) {
        y = ops_.maximum(y, *small);
      }
      const Clock::time_point start = Clock::now();
      eval({&y});
      return Report::elapsed_us(start) / chain;
    };
    auto idle = [this] {
      const Clock::time_point start = Clock::now();
      synchronize(stream_);
      return Report::elapsed_us(start);
    };
    const auto pass = pass_of(model, std::vector<int32_t>(size_.pass_pairs, pass_length));
    const double tokens = size_.pass_pairs * pass_length;
    // The parts of a pass: building, encoding, waiting, synchronizing afterwards.
    auto part = [=, this, &model](int wanted) {
      Clock::time_point at[5];
      at[0] = Clock::now();
      const Array logits = logits_of(model, *pass, stream_);
      at[1] = Clock::now();
      async_eval(logits);
      at[2] = Clock::now();
      eval({&logits});
      at[3] = Clock::now();
      synchronize(stream_);
      at[4] = Clock::now();
      const int from = wanted < 0 ? 0 : wanted, to = wanted < 0 ? 4 : wanted + 1;
      return std::chrono::duration<double, std::micro>(at[to] - at[from]).count();
    };
    report.measure(4, "fixed costs", dtype.name,
                   {{"empty eval", empty},
                    {"dependent kernel", dependent},
                    {"synchronize, idle", idle},
                    {"pass: whole", [=] { return part(-1); }, 0, 0, tokens},
                    {"pass: build", [=] { return part(0); }},
                    {"pass: encode", [=] { return part(1); }},
                    {"pass: wait", [=] { return part(2); }},
                    {"pass: synchronize", [=] { return part(3); }}});
  }

  // MLX reuses a buffer for the same size, and allocates one for another size.
  void shapes(const Model &model, const Dtype &dtype) {
    const int pairs = std::max(1, size_.microbatches.back() / 2 / pass_length);
    auto passes = std::make_shared<std::vector<std::shared_ptr<Pass>>>();
    for (int i = 0; i < 8; i++) { // four pairs longer, four shorter, around the same mean
      const int length = pass_length + (i % 2 == 0 ? 1 : -1) * (i / 2 + 1);
      passes->push_back(pass_of(model, std::vector<int32_t>(pairs, length)));
    }
    const auto same = pass_of(model, std::vector<int32_t>(pairs, pass_length));
    auto repeated = [=, this, &model] {
      double sum = 0;
      for (int i = 0; i < 4; i++) {
        sum += pass_us(model, *same);
      }
      return sum / 4;
    };
    auto next = std::make_shared<size_t>(0);
    auto jittered = [=, this, &model] {
      double sum = 0;
      for (int i = 0; i < 4; i++) {
        sum += pass_us(model, *(*passes)[(*next)++ % passes->size()]);
      }
      return sum / 4;
    };
    const double tokens = pairs * pass_length;
    report.measure(7, "shapes", dtype.name,
                   {{"repeated", repeated, 0, 0, tokens}, {"jittered", jittered, 0, 0, tokens}});
  }

  void microbatches(const Model &model, const Dtype &dtype) {
    std::vector<Member> members;
    for (const int tokens : size_.microbatches) {
      const auto pass = pass_of(model, std::vector<int32_t>(tokens / pass_length, pass_length));
      members.push_back({std::to_string(tokens) + " tokens",
                         [=, this, &model] { return pass_us(model, *pass); }, 0, 0,
                         static_cast<double>(tokens), nullptr, "", true});
    }
    report.measure(8, "microbatches", dtype.name, members);
  }

  // Eight microbatches, of which two are in flight.
  void streams(const Model &model, const Dtype &dtype) {
    const int tokens = size_.microbatches[size_.microbatches.size() / 2];
    const auto pass = pass_of(model, std::vector<int32_t>(tokens / pass_length, pass_length));
    mlx_device device = mlx_device_new_type(gpu_ ? MLX_GPU : MLX_CPU, 0);
    const mlx_stream second = mlx_stream_new_device(device);
    mlx_device_free(device);
    check(second.ctx == nullptr, "new stream");
    auto run = [=, this, &model](mlx_stream even, mlx_stream odd, bool synchronized) {
      const Clock::time_point start = Clock::now();
      Array flying[2];
      for (int i = 0; i < 8 + 2; i++) {
        Array &slot = flying[i % 2];
        const mlx_stream stream = i % 2 == 0 ? even : odd;
        if (!slot.empty()) {
          eval({&slot});
          if (synchronized) {
            synchronize(stream);
          }
        }
        slot = i < 8 ? logits_of(model, *pass, stream) : Array();
        if (!slot.empty()) {
          async_eval(slot);
        }
      }
      synchronize(even);
      return Report::elapsed_us(start) / 8;
    };
    const double n = tokens;
    const mlx_stream first = stream_;
    report.measure(8, "streams", dtype.name,
                   {{"one, depth 2", [=] { return run(first, first, false); }, 0, 0, n},
                    {"two, depth 1", [=] { return run(first, second, true); }, 0, 0, n}});
  }

  const bool gpu_;
  const Size size_;
  const std::map<int32_t, const Model *> models_;
  const std::string variant_; // of passes
  const mlx_stream stream_;
  const Ops ops_;
};

// Work that fails on the device after it was accepted there.
class Fault {
 public:
  Fault(const std::string &kind, mlx_stream stream) : kind_(kind), stream_(stream), ops_(stream) {}

  // Computes a batch, then the same with failing work in front of it, then the batch
  // again. Returns the JSON object of what became of them.
  std::string run(const Model &model) const {
    const Variant variant = find_variant(model, "");
    const Batch batch = random_batch(model.config, variant, std::vector<int32_t>(8, 64), 0);
    auto logits = [&] { return forward(model, variant, batch, stream_); };
    std::vector<float> want;
    finish(logits(), &want);
    std::string message;
    std::vector<float> got;
    const std::optional<Error> error = attempt([&] { finish(ops_.add(poison(), logits()), &got); });
    std::string outcome = "wrong scores";
    if (error) {
      outcome = "error";
      message = error->what();
    } else if (!std::all_of(got.begin(), got.end(), [](float x) { return std::isfinite(x); })) {
      outcome = "not finite"; // which the product refuses
    } else if (got == want) {
      outcome = "right scores"; // the device tolerated the work
    }
    std::string next = "right";
    std::vector<float> after;
    if (const std::optional<Error> error = attempt([&] { finish(logits(), &after); })) {
      next = error->what();
    } else if (after != want) {
      next = "wrong scores";
    }
    return "{\"kind\": " + quoted(kind_) + ", \"outcome\": " + quoted(outcome) +
           ", \"message\": " + quoted(message) + ", \"next\": " + quoted(next) + "}";
  }

 private:
  // As Session::start and Session::finish do.
  void finish(const Array &logits, std::vector<float> *out) const {
    async_eval(logits);
    eval({&logits});
    synchronize(stream_);
    const float *data = mlx_array_data_float32(logits);
    out->assign(data, data + mlx_array_size(logits));
  }

  // Returns a zero, [1, 1], whose computation fails on the device.
  Array poison() const {
    const int shape[] = {8, 8};
    Array zeros = checked_call("zeros", mlx_zeros, shape, size_t{2}, MLX_FLOAT32, stream_);
    Array failing = kind_ == "inverse"
                        ? checked_call("inverse", mlx_linalg_inv, mlx_array(zeros), stream_)
                        : beyond_memory(zeros);
    return ops_.slice(ops_.slice(failing, 0, 0, 1), 1, 0, 1);
  }

  // A kernel that writes or reads terabytes behind its arrays.
  Array beyond_memory(const Array &x) const {
    const char *source = kind_ == "write"
                             ? "const ulong far = ulong(x[0] + 4096.0f) << 30;\n"
                               "y[far + thread_position_in_grid.x] = 1.0f;\n"
                               "y[thread_position_in_grid.x] = 0.0f;\n"
                             : "const ulong far = ulong(x[0] + 4096.0f) << 30;\n"
                               "y[thread_position_in_grid.x] =\n"
                               "    x[far + thread_position_in_grid.x] == 1.0f ? 1.0f : 0.0f;\n";
    mlx_vector_string inputs = mlx_vector_string_new_value("x");
    mlx_vector_string outputs = mlx_vector_string_new_value("y");
    mlx_fast_metal_kernel kernel = mlx_fast_metal_kernel_new(
        ("mlxrank_fault_" + kind_).c_str(), inputs, outputs, source, "", true, false);
    mlx_fast_metal_kernel_config config = mlx_fast_metal_kernel_config_new();
    const int shape[] = {8, 8};
    int status = mlx_fast_metal_kernel_config_add_output_arg(config, shape, 2, MLX_FLOAT32);
    status |= mlx_fast_metal_kernel_config_set_grid(config, 64, 1, 1);
    status |= mlx_fast_metal_kernel_config_set_thread_group(config, 64, 1, 1);
    mlx_vector_array in = mlx_vector_array_new_value(x), out = mlx_vector_array_new();
    status = status != 0 ? status : mlx_fast_metal_kernel_apply(&out, kernel, in, config, stream_);
    mlx_array y{nullptr};
    status = status != 0 ? status : mlx_vector_array_get(&y, out, 0);
    Array result(y);
    mlx_vector_array_free(in);
    mlx_vector_array_free(out);
    mlx_fast_metal_kernel_config_free(config);
    mlx_fast_metal_kernel_free(kernel);
    mlx_vector_string_free(inputs);
    mlx_vector_string_free(outputs);
    check(status, "failing kernel");
    return result;
  }

  const std::string kind_;
  const mlx_stream stream_;
  const Ops ops_;
};

std::string header(bool gpu, bool quick) {
  mlxrank_info info = {};
  fill_info(&info);
  mlxrank_device device = {};
  fill_device(gpu ? MLXRANK_GPU : MLXRANK_CPU, &device);
  return "\"schema\": 1,\n  \"device\": " + quoted(gpu ? "gpu" : "cpu") +
         ",\n  \"quick\": " + (quick ? "true" : "false") +
         ",\n  \"mlx\": " + quoted(info.mlx_found) + ",\n  \"libmlx\": " + quoted(info.mlx_path) +
         ",\n  \"name\": " + quoted(device.name) +
         ",\n  \"architecture\": " + quoted(device.architecture) +
         ",\n  \"memory\": " + std::to_string(device.memory) +
         ",\n  \"working_set\": " + std::to_string(device.working_set);
}

std::shared_ptr<const Model> open(bool gpu, int32_t dtype, int layers) {
  mlxrank_config c = config_of(heads, head_size, layers);
  c.device = gpu ? MLXRANK_GPU : MLXRANK_CPU;
  c.dtype = dtype;
  c.intermediate_size = inner;
  std::mt19937 random(1);
  return random_model(c, random);
}

std::string measured(bool gpu, bool quick, const std::string &variant) {
  const Size size = size_of(gpu, quick);
  const auto half = open(gpu, MLXRANK_FLOAT16, size.layers);
  const auto single = open(gpu, MLXRANK_FLOAT32, size.layers);
  std::string rows;
  run_for(*single, [&](mlx_stream stream) {
    Measurer measurer(gpu, size, {{MLXRANK_FLOAT16, half.get()}, {MLXRANK_FLOAT32, single.get()}},
                      variant, stream);
    measurer.all();
    rows = measurer.report.rows;
  });
  return "{\n  " + header(gpu, quick) + ",\n  \"variant\": " + quoted(variant) +
         ",\n  \"rows\": [" + rows + "\n  ]\n}";
}

std::string failed(bool gpu, const std::string &fault) {
  const auto model = open(gpu, MLXRANK_FLOAT32, 2);
  std::string out;
  run_for(*model, [&](mlx_stream stream) { out = Fault(fault, stream).run(*model); });
  return out;
}

} // namespace

int main(int argc, char **argv) {
  const bool gpu = argc > 1 && argv[1] == std::string("gpu");
  bool known = gpu || (argc > 1 && argv[1] == std::string("cpu")), quick = false;
  std::string variant, fault;
  for (int i = 2; i < argc && known; i++) {
    const std::string option = argv[i];
    if (option == "--quick") {
      quick = true;
    } else if ((option == "--variant" || option == "--fault") && i + 1 < argc) {
      (option == "--fault" ? fault : variant) = argv[++i];
    } else {
      known = false;
    }
  }
  const bool faulty = gpu ? fault == "write" || fault == "read" : fault == "inverse";
  if (!known || (!fault.empty() && !faulty)) {
    std::fprintf(stderr,
                 "usage: measure cpu|gpu [--quick] [--variant NAME]\n"
                 "       measure cpu --fault inverse\n"
                 "       measure gpu --fault write|read\n");
    return 2;
  }
  setenv("MLXRANK_UNFUSED_GRAPH", "1", 1);
  install_error_handler();
  const std::optional<Error> error = attempt([&] {
    const std::string out = fault.empty() ? measured(gpu, quick, variant) : failed(gpu, fault);
    std::printf("%s\n", out.c_str());
  });
  if (error) {
    std::fprintf(stderr, "measure: %s\n", error->what());
    return 1;
  }
  return 0;
}
