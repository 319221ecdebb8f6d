package weights

import (
	"fmt"
	"maps"
	"slices"
)

// tokenizerSettings holds the settings in the files beside tokenizer.json, as
// AutoTokenizer of transformers 5 reads them.
type tokenizerSettings struct {
	class tokenizerClass

	lowercase, chineseChars bool  // of BertTokenizer
	prefixSpace             *bool // of the classes for SentencePiece and bytes
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
// the settings s. It warns if the class replaces parts of tokenizer.json that differ.
func (s *tokenizerSettings) apply(t *Tokenizer, vocabSize int, warn func(format string, args ...any)) error {
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
	if s.class.rebuilds() {
		before := t.parts()
		if err := s.class.rebuild(s, t); err != nil {
			return err
		}
		for i, part := range t.parts() {
			if part != before[i] {
				warn("%s: its %s is replaced by the one of %s, as in AutoTokenizer: %.200s instead of %.200s", tokenizerFile, partNames[i], s.class.name, part, before[i])
			}
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

// special returns a special token as a piece of a template.
func (t *Tokenizer) special(token string) (Piece, error) {
	for _, a := range t.AddedTokens {
		if a.Content == token {
			return Piece{Token: token, ID: a.ID}, nil
		}
	}
	if id, ok := t.model.words().wanted[token]; ok && id >= 0 {
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
	words := t.model.words()
	list := tokenList{words: words, index: map[string]int{}, next: words.tokens}
	if !s.class.rebuilds() {
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
	words  *vocabulary
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
	if token.ID = l.words.wanted[token.Content]; token.ID < 0 {
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
