package weights

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxPieceScore = 1e9 // sums of more have no digits left for the difference of two pieces
	joinBits      = 21  // of the number of bits in a joins
)

// A unigram holds a Unigram model, which splits a word into the pieces with the
// greatest sum of scores. It splits words itself: the tokenizer library takes half a
// gigabyte for the vocabulary of XLM-RoBERTa.
type unigram struct {
	vocabulary
	pieces       pieceList
	scores       []float64
	trie         trie
	least        float64 // score
	unknownID    int
	byteFallback bool // a character without a piece becomes its bytes
	joins        joins
	single       map[rune]bool // characters that are a piece
}

// unknownPenalty is how much less than the least piece an unknown character scores.
const unknownPenalty = 10

// parseUnigram parses a Unigram model. If exact is set, scores are read as Python
// reads them; otherwise as the tokenizer library of Python does, whose last digit may
// differ. Digits matter: two splits of a word of equal pieces have equal sums of
// scores, or not, by them.
func (t *Tokenizer) parseUnigram(fields object, vocabSize int, names []string, exact bool) error {
	u := unigram{joins: make(joins, 1<<joinBits/64), single: map[rune]bool{}}
	if isNull(fields["unk_id"]) {
		return errors.New(`field "unk_id" is missing, expected the id of the unknown piece`)
	}
	for _, f := range []struct {
		name string
		to   any
	}{{"unk_id", &u.unknownID}, {"byte_fallback", &u.byteFallback}} {
		if isNull(fields[f.name]) {
			continue
		}
		if err := decode(fields[f.name], f.to); err != nil {
			return fmt.Errorf("field %q: %w", f.name, err)
		}
	}
	if err := checkFields(fields, "type", "unk_id", "byte_fallback", "vocab"); err != nil {
		return err
	}
	u.vocabulary = newVocabulary(t.named(names), vocabSize)
	if err := u.parse(fields["vocab"], exact); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	if u.unknownID < 0 || u.unknownID >= u.tokens {
		return fmt.Errorf("unk_id is %d, expected less than the %d pieces of vocab", u.unknownID, u.tokens)
	}
	u.seen, u.trie, u.least = nil, newTrie(&u.pieces), slices.Min(u.scores)
	t.model, t.UnknownID = &u, u.unknownID
	return nil
}

// checkFields rejects fields that are not known.
func checkFields(fields object, known ...string) error {
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown field %.40q; it may change token ids", name)
		}
	}
	return nil
}

// parse reads a list of [piece, score], whose text is valid JSON. It does not use the
// JSON library: the list is most of the text that is parsed at start.
func (u *unigram) parse(raw []byte, exact bool) error {
	if kind := jsontext.Value(raw).Kind(); kind != '[' {
		return fmt.Errorf("found %s, expected an array of pieces with scores", kindName(kind))
	}
	count := bytes.Count(raw, []byte("[")) - 1 // at least the number of pieces
	u.seen, u.scores, u.pieces.ends = newTokenSet(count), make([]float64, 0, count), make([]uint32, 0, count)
	for i := skipSpace(raw, 1); raw[i] != ']'; i = skipSpace(raw, i) {
		name, score, size := cutPiece(raw[i:])
		if size == 0 {
			return fmt.Errorf("piece %d is %.80s, expected [\"piece\", score]", u.tokens, raw[i:])
		}
		if i = skipSpace(raw, i+size); raw[i] == ',' {
			i++
		}
		if err := u.addPiece(name, score, exact); err != nil {
			return fmt.Errorf("piece %d: %w", u.tokens, err)
		}
	}
	if u.tokens == 0 {
		return errors.New("it is empty")
	}
	return nil
}

// cutPiece returns the parts of a piece at the start of text, and its size, which is 0
// if it has another form.
func cutPiece(text []byte) (name, score []byte, size int) {
	if text[0] != '[' {
		return nil, nil, 0
	}
	i := skipSpace(text, 1)
	if text[i] != '"' {
		return nil, nil, 0
	}
	name = text[i : i+stringLength(text[i:])]
	if i = skipSpace(text, i+len(name)); text[i] != ',' {
		return nil, nil, 0
	}
	i = skipSpace(text, i+1)
	from := i
	for text[i] == '-' || text[i] == '+' || text[i] == '.' || text[i] == 'e' || text[i] == 'E' || text[i] >= '0' && text[i] <= '9' {
		i++
	}
	score = text[from:i]
	if i = skipSpace(text, i); text[i] != ']' || len(score) == 0 {
		return nil, nil, 0
	}
	return name, score, i + 1
}

// addPiece adds a piece: name is its JSON string, score its number.
func (u *unigram) addPiece(name, score []byte, exact bool) error {
	piece, _, err := plainString(name)
	if err != nil {
		return err
	}
	value, err := strconv.ParseFloat(string(score), 64)
	if err != nil || math.Abs(value) > maxPieceScore {
		return fmt.Errorf("%q has the score %.40s, expected -%g to %[3]g", piece, score, maxPieceScore)
	}
	library := libraryFloat(score)
	if math.IsNaN(library) {
		return fmt.Errorf("%q has the score %.40s, which AutoTokenizer cannot read", piece, score)
	}
	if !exact {
		value = library
	}
	if u.tokens > maxTokenID {
		return fmt.Errorf("%q has the id %d, expected at most %d", piece, u.tokens, maxTokenID)
	}
	if err := u.add(piece, u.tokens); err != nil {
		return err
	}
	u.pieces.add(piece)
	u.scores = append(u.scores, value)
	u.joins.add(piece)
	if r, size := utf8.DecodeRune(piece); size == len(piece) && size > 0 {
		u.single[r] = true
	}
	return nil
}

// write writes a model for the tokenizer library of which the only piece is the
// unknown one, word. So the library makes one token of every word, with the id 0, and
// gives the added tokens the ids from 1 on.
func (u *unigram) write(b *bytes.Buffer, word string) {
	fmt.Fprintf(b, `{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[[%s,0.0]]}`, quote(word))
}

// SplitsWords reports whether the library, given t.JSON, makes one token of each word,
// which Split splits. The added token with index i then has the id i+1.
func (t *Tokenizer) SplitsWords() bool { return t.Kind == Unigram }

// Split appends the ids of a word's tokens to ids.
func (t *Tokenizer) Split(word string, ids []uint32) []uint32 {
	u, ok := t.model.(*unigram)
	if !ok || word == "" {
		return ids
	}
	path := u.bestPath(word)
	// The unknown characters that are neighbours are one token.
	for from := int32(0); int(from) < len(word); {
		to := path[from].to
		if path[from].next != int32(u.unknownID) {
			ids = append(ids, uint32(path[from].next))
			from = to
			continue
		}
		for int(to) < len(word) && path[to].next == int32(u.unknownID) {
			to = path[to].to
		}
		ids = u.appendUnknown(ids, word[from:to])
		from = to
	}
	return ids
}

// Token returns the text of a token of a Unigram tokenizer, "" if there is none.
func (t *Tokenizer) Token(id int) string {
	if i := slices.IndexFunc(t.AddedTokens, func(a AddedToken) bool { return a.ID == id }); i >= 0 {
		return t.AddedTokens[i].Content
	}
	if u, ok := t.model.(*unigram); ok && id >= 0 && id < u.tokens {
		return string(u.pieces.get(id))
	}
	return ""
}

// appendUnknown appends the ids of unknown characters, which may be a piece together.
func (u *unigram) appendUnknown(ids []uint32, text string) []uint32 {
	if id := u.trie.find(text); id >= 0 {
		return append(ids, uint32(id))
	}
	if !u.byteFallback {
		return append(ids, uint32(u.unknownID))
	}
	known := len(ids)
	for i := range len(text) {
		id := u.trie.find(fmt.Sprintf("<0x%02X>", text[i]))
		if id < 0 {
			return append(ids[:known], uint32(u.unknownID))
		}
		ids = append(ids, uint32(id))
	}
	return ids
}

// A pathStep is a place in a word, between two bytes.
type pathStep struct {
	score      float64 // of the best split of the word up to here
	from, last int32   // start, -1 for no split yet, and id of that split's last token
	to, next   int32   // end and id of the token that starts here, in the word's best split
}

// bestPath returns the steps of the best split of a word, of which the one at byte i
// has the token that starts there. It adds scores in the order in which the tokenizer
// library does, so that equal sums are equal here and there.
func (u *unigram) bestPath(word string) []pathStep {
	path := make([]pathStep, len(word)+1)
	for i := range path {
		path[i].from = -1
	}
	for from := 0; from < len(word); {
		score := path[from].score
		_, size := utf8.DecodeRuneInString(word[from:])
		single := false
		node := uint32(0)
		for to := from; to < len(word); {
			if node = u.trie.step(node, word[to]); node == 0 {
				break
			}
			to++
			if id := u.trie.id[node]; id >= 0 {
				path[to].improve(u.scores[id]+score, from, id)
				single = single || to == from+size
			}
		}
		if !single {
			path[from+size].improve(u.least-unknownPenalty+score, from, int32(u.unknownID))
		}
		from += size
	}
	for to := int32(len(word)); to > 0; {
		from := path[to].from
		path[from].to, path[from].next = to, path[to].last
		to = from
	}
	return path
}

// improve takes a token that ends here if its split is better.
func (s *pathStep) improve(score float64, from int, id int32) {
	if s.from < 0 || score > s.score {
		s.score, s.from, s.last = score, int32(from), id
	}
}

// A joins is a set of pairs of characters that are neighbours in a piece. It stores
// hashes, so it may have pairs that no piece has.
type joins []uint64

func (j joins) add(piece []byte) {
	last := rune(-1)
	for _, r := range string(piece) {
		if last >= 0 {
			at := pairHash(last, r)
			j[at/64] |= 1 << (at % 64)
		}
		last = r
	}
}

func (j joins) has(a, b rune) bool {
	at := pairHash(a, b)
	return j[at/64]>>(at%64)&1 == 1
}

func pairHash(a, b rune) uint64 {
	return (uint64(a)<<21 | uint64(b)) * 0x9E3779B97F4A7C15 >> (64 - joinBits)
}

// Splits reports whether every result of the tokenizer has a token that ends between
// the characters a and b, which are neighbours in a word.
func (t *Tokenizer) Splits(a, b rune) bool {
	u, ok := t.model.(*unigram)
	// Neighbours without a piece become one unknown token.
	return ok && !u.joins.has(a, b) && (u.single[a] || u.single[b])
}

// libraryFloat returns the number that AutoTokenizer's tokenizer library reads from
// text, which is a JSON number. It rounds twice: the digits to a float64, and then the
// quotient of that and a power of ten.
func libraryFloat(text []byte) float64 {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	var digits uint64
	exponent, point, full := 0, false, false
	i := 0
	for ; i < len(text) && text[i] != 'e' && text[i] != 'E'; i++ {
		if text[i] == '.' {
			point = true
			continue
		}
		digit := uint64(text[i] - '0')
		full = full || digits > (math.MaxUint64-digit)/10
		switch {
		case full && !point:
			exponent++
		case !full:
			digits = 10*digits + digit
			if point {
				exponent--
			}
		}
	}
	if i < len(text) {
		n, err := strconv.Atoi(string(text[i+1:]))
		if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
			return math.NaN()
		}
		exponent += n
	}
	value := scale(float64(digits), exponent)
	if negative {
		return -value
	}
	return value
}

// scale returns value * 10^exponent, rounded as the tokenizer library rounds.
func scale(value float64, exponent int) float64 {
	for exponent < -308 && value != 0 {
		value /= 1e308
		exponent += 308
	}
	if exponent < -308 {
		return 0
	}
	if exponent > 308 {
		return math.NaN()
	}
	if exponent < 0 {
		return value / powersOfTen[-exponent]
	}
	return value * powersOfTen[exponent]
}

var powersOfTen = func() (list [309]float64) {
	for i := range list {
		value, err := strconv.ParseFloat("1e"+strconv.Itoa(i), 64)
		if err != nil {
			panic(err)
		}
		list[i] = value
	}
	return list
}()
