package weights

import (
	"fmt"
	"maps"
	"slices"
)

// A tokenizerClass describes how AutoTokenizer of transformers reads a tokenizer.
type tokenizerClass struct {
	// generic means that tokenizer.json is used unchanged. Otherwise the class is
	// BertTokenizer, which uses the vocabulary and the added tokens and builds the
	// rest itself.
	generic bool
	typeIDs bool // the model gets type ids unless model_input_names lacks them
}

var (
	bertClass    = tokenizerClass{typeIDs: true}
	genericClass = tokenizerClass{generic: true}
)

// tokenizerClasses holds the supported classes without the suffix "Fast".
var tokenizerClasses = map[string]tokenizerClass{
	"":                     bertClass, // decided by the model_type of config.json, which is bert
	"BertTokenizer":        bertClass,
	"ElectraTokenizer":     bertClass,
	"LayoutLMTokenizer":    bertClass,
	"LxmertTokenizer":      bertClass,
	"MobileBertTokenizer":  bertClass,
	"SqueezeBertTokenizer": bertClass,
	"DistilBertTokenizer":  {},
	"PreTrainedTokenizer":  genericClass,
	"TokenizersBackend":    genericClass,
}

// namedTokens lists the names of the special tokens in tokenizer_config.json, in
// the order in which transformers adds them.
var namedTokens = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// bertTokens holds the default special tokens of BertTokenizer.
var bertTokens = map[string]string{
	"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}

// tokenizerSettings holds the settings in the files beside tokenizer.json, as
// AutoTokenizer of transformers 5 reads them.
type tokenizerSettings struct {
	class tokenizerClass

	lowercase, chineseChars bool
	stripAccents            *bool
	side                    Side // "": the side of tokenizer.json
	maxLength               int  // in tokens, 0: no limit
	typeIDs                 bool

	named   []namedToken // in the order in which they are added
	extra   []AddedToken // added after the named ones
	decoder map[int]AddedToken
	whole   bool // decoder holds all added tokens; tokenizer.json's are ignored
	unused  []string
}

type namedToken struct {
	name  string
	token AddedToken
}

// apply changes t, which was read from tokenizer.json, as AutoTokenizer does with
// the settings s.
func (s *tokenizerSettings) apply(t *Tokenizer, vocabSize int) error {
	if s.side != "" {
		t.TruncationSide = s.side
	}
	if t.TruncationSide == "" {
		t.TruncationSide = Right
	}
	s.addTokens(t)
	if err := checkAddedSize(t.AddedTokens); err != nil {
		return err
	}
	if !s.class.generic {
		if err := s.rebuild(t); err != nil {
			return err
		}
	}
	if !s.typeIDs {
		t.Pair = slices.Clone(t.Pair)
		for i := range t.Pair {
			t.Pair[i].TypeID = 0
		}
	}
	return t.checkIDs(vocabSize)
}

// rebuild replaces the parts that BertTokenizer builds from its settings alone.
func (s *tokenizerSettings) rebuild(t *Tokenizer) error {
	t.Normalizer = Normalizer{CleanText: true, HandleChineseChars: s.chineseChars, StripAccents: s.stripAccents, Lowercase: s.lowercase}
	t.model.prefix, t.model.maxChars, t.Unknown = "##", 100, s.spelling("unk_token")
	cls, err := t.special(s.spelling("cls_token"))
	if err != nil {
		return err
	}
	sep, err := t.special(s.spelling("sep_token"))
	if err != nil {
		return err
	}
	end := sep
	end.TypeID = 1
	t.Single = []Piece{cls, {Sequence: SequenceA}, sep}
	t.Pair = []Piece{cls, {Sequence: SequenceA}, sep, {Sequence: SequenceB, TypeID: 1}, end}
	return nil
}

// special returns a special token as a piece of a template.
func (t *Tokenizer) special(token string) (Piece, error) {
	for _, a := range t.AddedTokens {
		if a.Content == token {
			return Piece{Token: token, ID: a.ID}, nil
		}
	}
	if id, ok := t.model.wanted[token]; ok && id >= 0 {
		return Piece{Token: token, ID: id}, nil
	}
	return Piece{}, fmt.Errorf("special token %q is not a token", token)
}

// addTokens adds tokens in the order of transformers: first the tokens of the
// decoder by id, which come from tokenizer.json unless tokenizer_config.json
// has a decoder; then missing named special tokens; then missing other tokens.
func (s *tokenizerSettings) addTokens(t *Tokenizer) {
	decoder := s.decoder
	if !s.whole {
		for _, token := range t.AddedTokens {
			decoder[token.ID] = token
		}
	}
	list := tokenList{model: &t.model, index: map[string]int{}, next: t.model.tokens}
	if s.class.generic {
		for _, token := range t.AddedTokens {
			list.add(token)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(decoder)) {
		token := decoder[id]
		token.Special = token.Special || slices.ContainsFunc(s.named, func(n namedToken) bool { return n.token.Content == token.Content })
		list.add(token)
	}
	for _, n := range s.named {
		if _, ok := list.index[n.token.Content]; !ok {
			n.token.Special = true
			list.add(n.token)
		}
	}
	for _, token := range s.extra {
		if _, ok := list.index[token.Content]; !ok {
			list.add(token)
		}
	}
	t.AddedTokens = list.tokens
}

// A tokenList assigns ids to added tokens as the tokenizer library does.
type tokenList struct {
	model  *wordPiece
	tokens []AddedToken
	index  map[string]int
	next   int
}

func (l *tokenList) add(token AddedToken) {
	if i, ok := l.index[token.Content]; ok {
		token.ID = l.tokens[i].ID
		l.tokens[i] = token
		return
	}
	if token.ID = l.model.wanted[token.Content]; token.ID < 0 {
		token.ID = l.next
		l.next++
	}
	l.index[token.Content] = len(l.tokens)
	l.tokens = append(l.tokens, token)
}

func checkAddedSize(tokens []AddedToken) error {
	size := 0
	for _, token := range tokens {
		size += len(token.Content)
	}
	if len(tokens) > maxAddedTokens || size > maxAddedBytes {
		return fmt.Errorf("%d added tokens of %d bytes (limit %d tokens, %d bytes)", len(tokens), size, maxAddedTokens, maxAddedBytes)
	}
	return nil
}

func (s *tokenizerSettings) setNamed(name string, token AddedToken) {
	if i := slices.IndexFunc(s.named, func(n namedToken) bool { return n.name == name }); i >= 0 {
		s.named[i].token = token
		return
	}
	s.named = append(s.named, namedToken{name, token})
}

// spelling returns the text of a named token, "" if there is none.
func (s *tokenizerSettings) spelling(name string) string {
	for _, n := range s.named {
		if n.name == name {
			return n.token.Content
		}
	}
	return ""
}

func (s *tokenizerSettings) isNamed(content string) bool {
	return slices.ContainsFunc(s.named, func(n namedToken) bool { return n.token.Content == content }) ||
		slices.ContainsFunc(s.extra, func(t AddedToken) bool { return t.Content == content })
}

// names returns the text of every token in the settings, so that their ids can be
// looked up in the vocabulary.
func (s *tokenizerSettings) names() []string {
	var names []string
	for _, n := range s.named {
		names = append(names, n.token.Content)
	}
	for _, t := range s.extra {
		names = append(names, t.Content)
	}
	for _, t := range s.decoder {
		names = append(names, t.Content)
	}
	return names
}
