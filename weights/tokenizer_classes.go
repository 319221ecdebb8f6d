package weights

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// A tokenizerClass describes how a class of transformers reads a tokenizer. A class
// with a kind uses the vocabulary and the added tokens of tokenizer.json, and builds
// the rest itself. The others use tokenizer.json as it is.
type tokenizerClass struct {
	name    string
	kind    TokenizerKind     // of the model that the class needs, "" for any
	extra   []AddedToken      // special tokens without a name, by default
	typeIDs bool              // the model gets type ids unless model_input_names lacks them
	tokens  map[string]string // special tokens by default, by name
	needs   []string          // names of tokens that must not be null
	rebuild func(s *tokenizerSettings, t *Tokenizer) error
}

func (c tokenizerClass) rebuilds() bool { return c.kind != "" }

// namedTokens lists the names of the special tokens in tokenizer_config.json, in
// the order in which transformers adds them.
var namedTokens = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

var (
	bertTokens = map[string]string{
		"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
	}
	robertaTokens = map[string]string{
		"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
	}

	genericClass    = tokenizerClass{name: "PreTrainedTokenizerFast"}
	bertClass       = tokenizerClass{"BertTokenizer", WordPiece, nil, true, bertTokens, []string{"unk_token", "cls_token", "sep_token"}, rebuildBert}
	distilBertClass = tokenizerClass{"DistilBertTokenizer", WordPiece, nil, false, bertTokens, bertClass.needs, rebuildBert}
	robertaClass    = tokenizerClass{"RobertaTokenizer", BPE, nil, false, robertaTokens, []string{"cls_token", "sep_token"}, rebuildRoberta}
	camembertClass  = tokenizerClass{
		"CamembertTokenizer", Unigram, []AddedToken{specialToken("<s>NOTUSED"), specialToken("</s>NOTUSED"), specialToken("<unk>NOTUSED")},
		false, robertaTokens, []string{"bos_token", "eos_token", "unk_token"}, rebuildCamembert,
	}
	xlmRobertaClass = tokenizerClass{"XLMRobertaTokenizer", Unigram, nil, false, robertaTokens, []string{"bos_token", "eos_token"}, rebuildXLMRoberta}
)

// tokenizerClasses holds the supported classes without the suffix "Fast".
var tokenizerClasses = map[string]tokenizerClass{
	"BertTokenizer":        bertClass,
	"ElectraTokenizer":     bertClass,
	"LayoutLMTokenizer":    bertClass,
	"LxmertTokenizer":      bertClass,
	"MobileBertTokenizer":  bertClass,
	"SqueezeBertTokenizer": bertClass,
	"DistilBertTokenizer":  distilBertClass,
	"RobertaTokenizer":     robertaClass,
	"XLMRobertaTokenizer":  xlmRobertaClass,
	"CamembertTokenizer":   camembertClass,
	"PreTrainedTokenizer":  genericClass,
	"TokenizersBackend":    genericClass,
}

// classOfModel names the class of a model whose files name none, by its model_type.
var classOfModel = map[string]string{
	"": "BertTokenizer", "bert": "BertTokenizer", "distilbert": "BertTokenizer", "electra": "BertTokenizer",
	"roberta": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "modernbert": "TokenizersBackend",
}

// findTokenizerClass returns the class that AutoTokenizer takes. name is the class in
// the model's files, "" if they have none.
func findTokenizerClass(name, modelType string) (tokenizerClass, error) {
	if name == "" {
		name = classOfModel[modelType]
	}
	class, ok := tokenizerClasses[strings.TrimSuffix(name, "Fast")]
	if !ok {
		return class, fmt.Errorf("tokenizer_class %q is not supported, expected one of %s", name, strings.Join(sortedKeys(tokenizerClasses), ", "))
	}
	return class, nil
}

// checkKind checks that the model of tokenizer.json is one that the class can read.
func (c tokenizerClass) checkKind(t *Tokenizer) error {
	if c.kind != "" && c.kind != t.Kind {
		return fmt.Errorf("model: type %q, but the tokenizer_class %s needs %q", t.Kind, c.name, c.kind)
	}
	return nil
}

// rebuildBert replaces the parts that BertTokenizer builds from its settings alone.
func rebuildBert(s *tokenizerSettings, t *Tokenizer) error {
	w, ok := t.model.(*wordPiece)
	if !ok {
		return s.class.checkKind(t)
	}
	t.Normalizer = Normalizer{CleanText: true, HandleChineseChars: s.chineseChars, StripAccents: s.stripAccents, Lowercase: s.lowercase}
	w.prefix, w.maxChars, t.Unknown = "##", 100, s.spelling("unk_token")
	var err error
	t.Single, t.Pair, err = s.template(t, "cls_token", "sep_token", bertTemplates)
	return err
}

// rebuildRoberta replaces the parts that RobertaTokenizer builds itself.
func rebuildRoberta(s *tokenizerSettings, t *Tokenizer) error {
	m, ok := t.model.(*bpe)
	if !ok {
		return s.class.checkKind(t)
	}
	m.hasUnknown, m.fuseUnknown, m.ignoreMerges = false, false, false
	t.Unknown, t.UnknownID = "", -1
	t.Steps, t.Words = nil, Words{PrefixSpace: valueOr(s.prefixSpace, false)}
	var err error
	t.Single, t.Pair, err = s.template(t, "cls_token", "sep_token", robertaTemplates)
	return err
}

// rebuildXLMRoberta replaces the parts that XLMRobertaTokenizer builds itself.
func rebuildXLMRoberta(s *tokenizerSettings, t *Tokenizer) error {
	u, ok := t.model.(*unigram)
	if !ok {
		return s.class.checkKind(t)
	}
	const unknown = 3
	if u.tokens <= unknown {
		return fmt.Errorf("model: vocab has %d pieces; with %s, piece %d must be the unknown one", u.tokens, s.class.name, unknown)
	}
	return s.rebuildUnigram(t, u, unknown)
}

// rebuildCamembert replaces the parts that CamembertTokenizer builds itself.
func rebuildCamembert(s *tokenizerSettings, t *Tokenizer) error {
	u, ok := t.model.(*unigram)
	if !ok {
		return s.class.checkKind(t)
	}
	return s.rebuildUnigram(t, u, max(0, u.wanted[s.spelling("unk_token")]))
}

// rebuildUnigram replaces what the classes for SentencePiece build: they keep the
// vocabulary and the table of the normalizer.
func (s *tokenizerSettings) rebuildUnigram(t *Tokenizer, u *unigram, unknown int) error {
	u.unknownID, u.byteFallback, t.UnknownID = unknown, false, unknown
	if i := slices.IndexFunc(t.Steps, func(step Step) bool { return step.Kind == Precompiled }); i >= 0 {
		t.Steps = t.Steps[i : i+1]
	} else {
		t.Steps = nil
	}
	t.Words = Words{AtSpaces: true, Prepend: PrependAlways, AtMetaspace: true}
	if !valueOr(s.prefixSpace, true) {
		t.Words.Prepend = PrependNever
	}
	var err error
	t.Single, t.Pair, err = s.template(t, "bos_token", "eos_token", robertaTemplates)
	return err
}

// template makes templates of the named tokens first and last.
func (s *tokenizerSettings) template(t *Tokenizer, first, last string, build func(first, last Piece) (single, pair []Piece)) (single, pair []Piece, err error) {
	a, err := t.special(s.spelling(first))
	if err != nil {
		return nil, nil, err
	}
	b, err := t.special(s.spelling(last))
	if err != nil {
		return nil, nil, err
	}
	single, pair = build(a, b)
	return single, pair, nil
}

var partNames = [...]string{"normalizer", "pre_tokenizer", "post_processor", "model"}

// parts describes the parts of a tokenizer that a class may replace, for comparison.
func (t *Tokenizer) parts() [len(partNames)]string {
	var normalizer, words bytes.Buffer
	plain := *t
	strip := valueOr(t.Normalizer.StripAccents, t.Normalizer.Lowercase)
	plain.Normalizer.StripAccents = &strip
	plain.writeNormalizer(&normalizer)
	t.writeWords(&words)
	model := fmt.Sprintf("unknown token %d", t.UnknownID)
	switch m := t.model.(type) {
	case *wordPiece:
		model = fmt.Sprintf("unknown token %q, prefix %q, words of %d characters", t.Unknown, m.prefix, m.maxChars)
	case *unigram:
		model += fmt.Sprintf(", byte_fallback %t", m.byteFallback)
	case *bpe:
		model += fmt.Sprintf(", fuse_unk %t, ignore_merges %t", m.fuseUnknown, m.ignoreMerges)
	}
	return [...]string{normalizer.String(), words.String(), describe(t.Pair), model}
}

// describe returns a template as text, such as "<s> A </s> B </s>".
func describe(pieces []Piece) string {
	var words []string
	for _, p := range pieces {
		words = append(words, fmt.Sprintf("%s%s:%d", p.Sequence, p.Token, p.TypeID))
	}
	return strings.Join(words, " ")
}
