package weightstest

import (
	"fmt"
	"slices"
	"strings"
)

// specials are BERT's special tokens, in the order of their ids.
var specials = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}

// words lists the tokens of more than one character.
const words = "the of and to in is for on with that by it as at from this an be are or not what how where when who which " +
	"query document text search rank model score word sentence page file program package library network data system user " +
	"berlin paris london city river people water music language science history number system time day year world"

// Tokenizer returns the tokenizer.json of an uncased BERT WordPiece model with
// exactly vocabSize tokens: the special tokens with the ids of BERT (0, 100,
// 101, 102, 103), or 0 to 4 if the vocabulary is smaller than 300; as many single
// characters, alone and as continuations, and words as fit; and [unused] tokens
// for the other ids.
func Tokenizer(vocabSize int) map[string]any {
	vocab := make(map[string]int, vocabSize)
	added := make([]map[string]any, len(specials))
	taken := map[int]bool{}
	for i, token := range specials {
		id := i
		if vocabSize >= 300 && i > 0 {
			id = 99 + i
		}
		vocab[token], taken[id] = id, true
		added[i] = map[string]any{
			"id": id, "content": token, "special": true,
			"single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
		}
	}
	rest := pieces()
	for id := range vocabSize {
		if taken[id] {
			continue
		}
		token := fmt.Sprintf("[unused%d]", id)
		if (vocabSize < 300 || id > 103) && len(rest) > 0 {
			token, rest = rest[0], rest[1:]
		}
		vocab[token] = id
	}
	return map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer":     map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
		"pre_tokenizer":  map[string]any{"type": "BertPreTokenizer"},
		"post_processor": postProcessor(vocab["[CLS]"], vocab["[SEP]"]),
		"decoder":        map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model": map[string]any{
			"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
			"max_input_chars_per_word": 100, "vocab": vocab,
		},
	}
}

// pieces returns the tokens that are not special, without duplicates.
func pieces() []string {
	var list []string
	seen := map[string]bool{}
	add := func(token string) {
		if !seen[token] {
			seen[token] = true
			list = append(list, token)
		}
	}
	for c := 'a'; c <= 'z'; c++ {
		add(string(c))
		add("##" + string(c))
	}
	for c := '!'; c <= '~'; c++ {
		if c < 'A' || c > 'Z' { // the normalizer lower-cases
			add(string(c))
		}
	}
	for c := '0'; c <= '9'; c++ {
		add("##" + string(c))
	}
	for _, word := range strings.Fields(words) {
		add(word)
	}
	return list
}

// postProcessor wraps texts as [CLS] a [SEP] and pairs as [CLS] a [SEP] b [SEP].
func postProcessor(cls, sep int) map[string]any {
	special := func(token string, typeID int) map[string]any {
		return map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": typeID}}
	}
	sequence := func(id string, typeID int) map[string]any {
		return map[string]any{"Sequence": map[string]any{"id": id, "type_id": typeID}}
	}
	single := []any{special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)}
	return map[string]any{
		"type":   "TemplateProcessing",
		"single": single,
		"pair":   append(slices.Clip(single), sequence("B", 1), special("[SEP]", 1)),
		"special_tokens": map[string]any{
			"[CLS]": map[string]any{"id": "[CLS]", "ids": []int{cls}, "tokens": []string{"[CLS]"}},
			"[SEP]": map[string]any{"id": "[SEP]", "ids": []int{sep}, "tokens": []string{"[SEP]"}},
		},
	}
}
