// A program outside of the repository. Prints the index and score of each document.
#include <mlxr.h>
#include <stdio.h>

int main(int argc, char **argv) {
  mlxr_options options = {.size = sizeof options, .model = mlxr_string("builtin"), .device = MLXR_DEVICE_CPU};
  mlxr_text query, documents[8];
  mlxr_ranked ranked[8];
  mlxr_ranker ranker;
  char message[1024];
  int64_t count = 0;
  if (argc < 3 || argc > 10) return 2;
  query = mlxr_string(argv[1]);
  for (int i = 2; i < argc; i++) documents[i - 2] = mlxr_string(argv[i]);
  if (mlxr_open(&options, NULL, &ranker) != MLXR_OK ||
      mlxr_rerank(ranker, &query, documents, argc - 2, NULL, ranked, 8, &count, NULL) != MLXR_OK) {
    mlxr_last_error(ranker, message, sizeof message, NULL);
    fprintf(stderr, "%s\n", message);
    return 1;
  }
  for (int i = 0; i < count; i++) printf("%lld %.4f\n", (long long)ranked[i].index, (double)ranked[i].score);
  return mlxr_close(ranker) == MLXR_OK ? 0 : 1;
}
