package engine

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// A mutator makes files like tokenizer.json, and texts, from valid ones. The same
// seed gives the same results.
type mutator struct {
	*rand.Rand
	tokenizerSeeds
}

func newMutator(seeds tokenizerSeeds, index uint64) mutator {
	return mutator{rand.New(rand.NewPCG(index, 29)), seeds}
}

// file makes a file. Half of the files follow the format of tokenizer.json, so
// that many reach the tokenizer library. The others have a broken structure or
// text.
func (m mutator) file() []byte {
	keeps := m.IntN(2) == 0
	seed := m.seeds[m.IntN(len(m.seeds))]
	if keeps || m.IntN(2) == 0 {
		seed = m.good[m.IntN(len(m.good))]
	}
	var tree any
	if json.Unmarshal(seed, &tree) != nil {
		return m.bytes(seed)
	}
	switch {
	case keeps:
		for range 1 + m.IntN(4) {
			m.change(tree.(map[string]any))
		}
		return []byte(m.write(tree, m.IntN(50) == 0))
	case m.IntN(4) == 0:
		return m.bytes(seed)
	}
	for range 1 + m.IntN(3) {
		m.breakTree(&tree)
	}
	return []byte(m.write(tree, m.IntN(10) == 0))
}

// bytes changes, removes and repeats some bytes.
func (m mutator) bytes(text []byte) []byte {
	text = slices.Clone(text)
	for range 1 + m.IntN(4) {
		if len(text) == 0 {
			break
		}
		i := m.IntN(len(text))
		n := min(1+m.IntN(20), len(text)-i)
		switch m.IntN(4) {
		case 0:
			text[i] = byte(m.IntN(256))
		case 1:
			text = slices.Delete(text, i, i+n)
		case 2:
			text = slices.Insert(text, i, text[i:i+n]...)
		default:
			text = slices.Insert(text, i, []byte(m.pick(`"`, `{`, `}`, `[`, `\u0000`, `\ud800`, `9`, `-`, "\xff", `,`, `null`))...)
		}
	}
	return text
}

func (m mutator) pick(list ...string) string { return list[m.IntN(len(list))] }

// value returns a JSON value that is wrong almost everywhere.
func (m mutator) value() any {
	return []any{
		nil, true, false, 0, -1, 1, 2, 7, 1.5, json.Number("1e400"), json.Number("4294967296"), json.Number("18446744073709551616"), json.Number("-0"),
		"", "\x00", "[CLS]", "[X]", "A", "B", "Left", m.text(), strings.Repeat("x", 1<<m.IntN(16)), []any{}, map[string]any{}, []any{1, 2}, []any{"[CLS]", 2},
		map[string]any{"type": m.pick(types...)}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"Regex": "(a*)*b"},
	}[m.IntN(29)]
}

// types lists the types of every part of a tokenizer.json.
var types = []string{
	"WordPiece", "BPE", "Unigram", "WordLevel", "BertNormalizer", "NFC", "NFKD", "Lowercase", "Sequence", "Replace", "Prepend", "Precompiled",
	"BertPreTokenizer", "ByteLevel", "WhitespaceSplit", "Metaspace", "Whitespace", "Split", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Fuse", "Strip",
}

// breakTree puts values, keys and parts of the tree in wrong positions.
func (m mutator) breakTree(tree *any) {
	path := tree
	depth := 1 + m.IntN(6)
	if m.IntN(100) == 0 {
		depth = 0
	}
	for ; depth > 0; depth-- {
		switch node := (*path).(type) {
		case map[string]any:
			if len(node) == 0 {
				break
			}
			key := slices.Sorted(maps.Keys(node))[m.IntN(len(node))]
			switch {
			case depth > 1 && m.IntN(8) != 0:
				child := node[key]
				defer func() { node[key] = child }()
				path = &child
				continue
			case m.IntN(3) == 0:
				delete(node, key)
			case m.IntN(2) == 0:
				other := m.pick("type", "id", "ids", "tokens", "content", "vocab", "merges", "novel", "single", m.text())
				node[other] = node[key]
			default:
				node[key] = m.value()
			}
			return
		case []any:
			if len(node) == 0 {
				break
			}
			i := m.IntN(len(node))
			switch {
			case depth > 1 && m.IntN(8) != 0:
				path = &node[i]
				continue
			case m.IntN(3) == 0:
				node[i] = node[m.IntN(len(node))]
			default:
				node[i] = m.value()
			}
			return
		}
		break
	}
	*path = m.value()
}

// change makes changes that the format of tokenizer.json allows. Correct ids
// remain correct.
func (m mutator) change(root map[string]any) {
	model := root["model"].(map[string]any)
	size := 0
	switch vocab := model["vocab"].(type) {
	case map[string]any:
		size = len(vocab)
	case []any:
		size = len(vocab)
	}
	added := root["added_tokens"].([]any)
	next := size // the id of another added token
	for _, a := range added {
		next = max(next, number(a.(map[string]any)["id"])+1)
	}
	switch m.IntN(9) {
	case 0, 1, 2: // more added tokens
		for range 1 + m.IntN(4) {
			flag := func() bool { return m.IntN(2) == 0 }
			added = append(added, map[string]any{"id": next, "content": m.token(), "single_word": flag(), "lstrip": flag(), "rstrip": flag(), "normalized": flag(), "special": flag()})
			next++
		}
		root["added_tokens"] = added
	case 3: // other flags
		token := added[m.IntN(len(added))].(map[string]any)
		token[m.pick("single_word", "lstrip", "rstrip", "normalized", "special")] = m.IntN(2) == 0
	case 4:
		delete(model, "type")
		delete(root, m.pick("decoder", "padding", "truncation", "version"))
	default:
		switch model["type"] {
		case "Unigram":
			m.changeUnigram(root, model)
		case "BPE":
			m.changeBPE(root, model)
		default:
			m.changeWordPiece(root, model, next)
		}
	}
}

func (m mutator) changeWordPiece(root, model map[string]any, next int) {
	vocab, ok := model["vocab"].(map[string]any)
	if !ok || model["merges"] != nil {
		return
	}
	switch m.IntN(4) {
	case 0: // a larger vocabulary, if no token was added after it
		for range 1 + m.IntN(20) {
			if token := m.pick("", "##") + m.token(); next == len(vocab) && vocab[token] == nil {
				next++
				vocab[token] = len(vocab)
			}
		}
	case 1:
		root["normalizer"].(map[string]any)[m.pick("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")] = m.IntN(2) == 0
	case 2:
		model["max_input_chars_per_word"] = []int{0, 1, 3, 100, 200, 256, 257}[m.IntN(7)]
		model["continuing_subword_prefix"] = m.pick("##", "", "#", "é", "\u0301", "▁", m.token())
	default:
		model["unk_token"] = slices.Sorted(maps.Keys(vocab))[m.IntN(len(vocab))]
	}
}

func (m mutator) changeUnigram(root, model map[string]any) {
	vocab := model["vocab"].([]any)
	switch m.IntN(7) {
	case 0: // another score
		vocab[m.IntN(len(vocab))].([]any)[1] = []any{0, -1e-300, -1e9, 5, -3.4635426998138428, json.Number("-1e308"), json.Number("-12345678901234567890.5")}[m.IntN(7)]
	case 1: // another piece
		vocab[m.IntN(len(vocab))].([]any)[0] = m.token()
	case 2:
		model["unk_id"] = m.IntN(len(vocab) + 2)
	case 3:
		model["byte_fallback"] = m.IntN(2) == 0
		for n := range 256 {
			if m.IntN(2) == 0 {
				vocab[m.IntN(len(vocab))].([]any)[0] = fmt.Sprintf("<0x%02X>", n)
			}
		}
	case 4:
		words := map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": m.pick("always", "first", "never"), "split": m.IntN(2) == 0}
		root["pre_tokenizer"] = words
		if m.IntN(2) == 0 {
			root["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "WhitespaceSplit"}, words}}
		}
	case 5:
		m.changeCharsmap(root)
	default:
		root["normalizer"] = map[string]any{"type": "Sequence", "normalizers": []any{
			map[string]any{"type": m.pick("NFC", "NFKC", "Lowercase")}, map[string]any{"type": "Strip", "strip_left": m.IntN(2) == 0, "strip_right": m.IntN(2) == 0},
			map[string]any{"type": "Replace", "pattern": map[string]any{"Regex": " {2,}"}, "content": m.pick(" ", "▁")},
		}}
	}
}

// changeCharsmap changes bytes of the table of a Precompiled normalizer.
func (m mutator) changeCharsmap(root map[string]any) {
	list, _ := root["normalizer"].(map[string]any)["normalizers"].([]any)
	for _, step := range list {
		table, ok := step.(map[string]any)["precompiled_charsmap"].(string)
		if !ok {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(table)
		if err != nil || len(data) == 0 {
			continue
		}
		for range 1 + m.IntN(6) {
			data[m.IntN(len(data))] = byte(m.IntN(256))
		}
		step.(map[string]any)["precompiled_charsmap"] = base64.StdEncoding.EncodeToString(data)
	}
}

func (m mutator) changeBPE(root, model map[string]any) {
	merges := model["merges"].([]any)
	vocab := model["vocab"].(map[string]any)
	words := root["pre_tokenizer"].(map[string]any)
	switch m.IntN(6) {
	case 0:
		m.Shuffle(len(merges), func(i, j int) { merges[i], merges[j] = merges[j], merges[i] })
	case 1:
		model["merges"] = merges[:m.IntN(len(merges)+1)]
	case 2:
		model["unk_token"] = slices.Sorted(maps.Keys(vocab))[m.IntN(len(vocab))]
		model["fuse_unk"] = m.IntN(2) == 0
	case 3:
		model["ignore_merges"] = m.IntN(2) == 0
	case 4:
		words["add_prefix_space"] = m.IntN(2) == 0
	default:
		root["normalizer"] = map[string]any{"type": m.pick("NFC", "NFKC", "Lowercase")}
	}
}

func number(value any) int {
	if n, ok := value.(float64); ok {
		return int(n)
	}
	return value.(int)
}

// token returns a token that a tokenizer may add.
func (m mutator) token() string {
	if m.IntN(30) == 0 {
		return strings.Repeat(m.pick("x", "ab", "é", "\u0301"), 1<<m.IntN(15))
	}
	var b strings.Builder
	for range 1 + m.IntN(3) {
		b.WriteString(m.pick(scraps...))
	}
	return b.String()
}

// scraps lists the pieces of tokens and texts: characters that normalizers remove,
// widen, join or split, white space, and parts of tokens.
var scraps = []string{
	" ", "  ", "\t", "\n", "a", "b", "ab", "A", "Ä", "é", "e\u0301", "\u0301", "\u200d", "\u200b", "\ufeff", "\ufffd", "\u00ad", "\u2028", "\u3000",
	"東", "京", "𠀀", "한", "ß", "İ", "ﬁ", "ﷺ", "🫠", "👩‍💻", "\u0378", "\ue000", "\U0010ffff", ".", ",", "#", "##", "##a", "[", "]", "[CLS]", "[SEP]", "[UNK]", "[MASK]",
	"mail reader", " Files", "\x01", "\x7f", "\u0085", "\u0600", "\u1e9b\u0323", "\u0344", "0", "_", "-",
}

// text returns a text to encode.
func (m mutator) text() string {
	var b strings.Builder
	for range m.IntN(24) {
		switch m.IntN(12) {
		case 0:
			b.WriteString(m.pick("\x00", "\xff", "\xed\xa0\x80", "\xf0\x9f"))
		case 1:
			b.WriteString(strings.Repeat(m.pick(scraps...), m.IntN(150)))
		default:
			b.WriteString(m.pick(scraps...))
		}
	}
	return b.String()
}

// write returns a tree as JSON, with some syntax errors if faults is set.
func (m mutator) write(tree any, faults bool) string {
	switch node := tree.(type) {
	case map[string]any:
		var fields []string
		for _, key := range slices.Sorted(maps.Keys(node)) {
			fields = append(fields, m.write(key, faults)+":"+m.write(node[key], faults))
			if faults && m.IntN(40) == 0 {
				fields = append(fields, fields[m.IntN(len(fields))])
			}
		}
		return "{" + strings.Join(fields, ",") + "}"
	case []any:
		var values []string
		for _, value := range node {
			values = append(values, m.write(value, faults))
		}
		return "[" + strings.Join(values, ",") + "]"
	case string:
		if faults && m.IntN(100) == 0 {
			return `"` + m.pick(`\ud800`, `\udc00x`, "\xff", `\u0000`, `\x`) + `"`
		}
	}
	text, err := json.Marshal(tree)
	if err != nil {
		panic(fmt.Sprintf("%v: %v", tree, err))
	}
	return string(text)
}
