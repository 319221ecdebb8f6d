// From C++: RAII over a handle, lambdas as callbacks.
//   host MODEL
#include <mlxr.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

class Ranker {
 public:
  explicit Ranker(std::string_view model) {
    mlxr_options options{};
    options.size = sizeof options;
    options.model = text(model);
    options.device = MLXR_DEVICE_CPU;
    check(0, mlxr_open(&options, nullptr, &handle_));
  }
  ~Ranker() { mlxr_close(handle_); }
  Ranker(const Ranker &) = delete;
  Ranker &operator=(const Ranker &) = delete;

  std::vector<mlxr_ranked> rerank(std::string_view query, const std::vector<std::string> &documents,
                                  int64_t *told) const {
    std::vector<mlxr_text> texts;
    for (const auto &document : documents) texts.push_back(text(document));
    std::vector<mlxr_ranked> ranked(documents.size());
    mlxr_call call{};
    call.size = sizeof call;
    call.progress = [](void *context, int64_t, int64_t) { ++*static_cast<int64_t *>(context); };
    call.progress_context = told;
    const mlxr_text asked = text(query);
    check(handle_, mlxr_rerank(handle_, &asked, texts.data(), static_cast<int64_t>(texts.size()), &call, ranked.data(),
                               static_cast<int64_t>(ranked.size()), nullptr, nullptr));
    return ranked;
  }

 private:
  static mlxr_text text(std::string_view s) { return {s.data(), static_cast<int64_t>(s.size())}; }

  static void check(mlxr_ranker handle, int32_t status) {
    if (status == MLXR_OK) return;
    int64_t needed = 0;
    mlxr_last_error(handle, nullptr, 0, &needed);
    std::string message(static_cast<size_t>(needed), '\0');
    mlxr_last_error(handle, message.data(), needed, nullptr);
    throw std::runtime_error(message.c_str());
  }

  mlxr_ranker handle_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
  try {
    const Ranker ranker(argc > 1 ? argv[1] : "");
    std::vector<std::string> documents(300, "a lazy dog");
    for (size_t i = 0; i < documents.size(); i++) documents[i] += std::to_string(i);
    int64_t told = 0;
    const auto ranked = ranker.rerank("a fox", documents, &told);
    if (told == 0 || ranked.front().logit < ranked.back().logit) throw std::runtime_error("not ranked, or no progress");
    try {
      const Ranker none("./not/there");
      throw std::logic_error("opened what is not there");
    } catch (const std::runtime_error &e) {
      if (std::string(e.what()).find("not/there") == std::string::npos) throw;
    }
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
