// A host that passes more room than it has, which AddressSanitizer must detect.
//   overrun MODEL
#include "test.h"

int main(int argc, char **argv) {
  CHECK(argc == 2);
  const mlxr_text texts[4] = {{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}};
  float *scores = malloc(3 * sizeof *scores);
  const mlxr_ranker ranker = open_ranker(argv[1]);
  CHECK(scores != NULL);
  EXPECT(MLXR_OK, ranker, mlxr_score(ranker, texts, texts, 4, NULL, scores, 4, NULL, NULL));
  free(scores);
  return 0;
}
