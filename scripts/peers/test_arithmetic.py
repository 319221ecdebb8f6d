"""python3 -m unittest discover -s scripts/peers"""

import math
import unittest

import arithmetic

MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}


class Flops(unittest.TestCase):
    def test_by_hand(self):
        config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 2, "num_labels": 1}
        # full layer, 5 tokens: QKV 120, attention 200, output 40, feed-forward 60 + 60.
        # last: keys and values 80, query 8, attention 40, output 8, feed-forward 12 + 12.
        # pooler 8, classifier 4.
        self.assertEqual(arithmetic.flops(config, 5), 480 + 160 + 12)

    def test_modernbert_by_hand(self):
        config = {
            "model_type": "modernbert",
            "hidden_size": 2,
            "intermediate_size": 3,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "local_attention": 2,
        }
        # local layer, 5 tokens: QKV 120, attention 8 (2 + 3 + 3 + 3 + 2), output 40, feed-forward 120 + 60.
        # last: keys and values 80, query 8, attention 40, output 8, feed-forward 24 + 12.
        # dense 8, classifier 4.
        self.assertEqual(arithmetic.flops(config, 5), 444 + 172 + 12)

    def test_scores(self):
        self.assertEqual(arithmetic.scores(7, 7, math.inf), 49)
        self.assertEqual(arithmetic.scores(1, 7, 2), 3)
        self.assertEqual(arithmetic.scores(7, 7, 2), 3 + 4 + 5 + 5 + 5 + 4 + 3)

    def test_minilm(self):
        # 21.2 million of weights in six layers' products, of which the last has 1/6 x 1/6.
        self.assertAlmostEqual(arithmetic.flops(MINILM, 93) / 1e9, 1.78, delta=0.02)

    def test_grows_with_the_square(self):
        linear = 2 * arithmetic.flops(MINILM, 256)
        attention = 5 * 4 * 384 * (512**2 - 2 * 256**2)
        once = arithmetic.flops(MINILM, 0)  # what is there whatever the length
        self.assertEqual(arithmetic.flops(MINILM, 512), linear + attention - once)


class Rates(unittest.TestCase):
    def test_percentile(self):
        self.assertEqual(arithmetic.percentile([4, 1, 3, 2], 50), 2.5)
        self.assertAlmostEqual(arithmetic.percentile([1, 2, 3, 4, 5], 95), 4.8)
        self.assertEqual(arithmetic.percentile([7], 95), 7)

    def test_rates(self):
        self.assertEqual(arithmetic.rates(100, [1, 2, 4]), {"median": 50, "min": 25, "max": 100})

    def test_ratio_is_of_rounds(self):
        # Both slow down in the second round: that is no difference between them.
        self.assertEqual(arithmetic.ratio([100, 50, 100], [50, 25, 50]), 2)
        with self.assertRaises(ValueError):
            arithmetic.ratio([1, 2], [1])


class Agreement(unittest.TestCase):
    def test_worst(self):
        self.assertAlmostEqual(arithmetic.worst([1, -1.5], [1, -1]), 0.5)
        self.assertEqual(arithmetic.worst([1, math.nan], [1, -1]), math.inf)
        with self.assertRaises(ValueError):
            arithmetic.worst([1], [1, 2])

    def test_kendall(self):
        self.assertEqual(arithmetic.kendall([1, 2, 3], [10, 20, 30]), 1)
        self.assertEqual(arithmetic.kendall([1, 2, 3], [3, 2, 1]), -1)
        self.assertAlmostEqual(arithmetic.kendall([1, 2, 3], [1, 3, 2]), 1 / 3)
        self.assertAlmostEqual(arithmetic.kendall([1, 1, 2], [1, 2, 3]), 2 / math.sqrt(6))

    def test_overlap(self):
        scores = list(range(20))
        self.assertEqual(arithmetic.overlap(scores, scores), 1)
        self.assertEqual(arithmetic.overlap(scores, scores[::-1]), 0)

    def test_agreement_is_per_query(self):
        want = [1.0, 2.0, 9.0, 8.0]
        got = [2.0, 1.0, 9.0, 8.0]
        found = arithmetic.agreement(got, want, ["a", "a", "b", "b"])
        self.assertEqual(found["tau"], 0)
        self.assertEqual(found["top10"], 1)
        self.assertEqual((found["pairs"], found["queries"]), (4, 2))


if __name__ == "__main__":
    unittest.main()
