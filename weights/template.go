package weights

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// checkFrame checks that the template of pairs has special tokens, and that its
// type ids are below the number of token types of the model.
func (t *Tokenizer) checkFrame(types int) error {
	special := 0
	for _, p := range t.Pair {
		if p.Sequence == "" {
			special++
		}
		if p.TypeID >= types {
			return fmt.Errorf("post_processor: type id %d, expected less than the type_vocab_size %d of %s", p.TypeID, types, configFile)
		}
	}
	if special == 0 {
		return errors.New("post_processor: pairs without special tokens are not supported, expected a template such as [CLS] A [SEP] B [SEP]")
	}
	return nil
}

// parsePostProcessor parses the templates that add special tokens to texts.
func (t *Tokenizer) parsePostProcessor(raw jsontext.Value) error {
	switch kind := readType(raw); {
	case isNull(raw):
		return nil
	case kind == "TemplateProcessing":
		return t.parseTemplate(raw)
	case kind == "BertProcessing" || kind == "RobertaProcessing":
		return t.parseTwoTokens(kind, raw)
	case kind == "ByteLevel":
		return checkTrim(raw) // changes offsets only
	case kind == "Sequence":
		return t.parseSequence(raw)
	default:
		return fmt.Errorf("%s is not supported, expected TemplateProcessing, BertProcessing or RobertaProcessing", orNone(kind))
	}
}

// parseSequence parses a list of post-processors. At most one of them may add tokens:
// what several add to each other's tokens depends on the library's version.
func (t *Tokenizer) parseSequence(raw jsontext.Value) error {
	var v struct {
		Type       string           `json:"type"`
		Processors []jsontext.Value `json:"processors"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	for i, processor := range v.Processors {
		if t.Pair != nil && readType(processor) != "ByteLevel" {
			return fmt.Errorf("processor %d: %s after another template is not supported", i, orNone(readType(processor)))
		}
		if readType(processor) == "Sequence" {
			return fmt.Errorf("processor %d: a Sequence in a Sequence is not supported", i)
		}
		if err := t.parsePostProcessor(processor); err != nil {
			return fmt.Errorf("processor %d: %w", i, err)
		}
	}
	return nil
}

// checkTrim checks the post-processor ByteLevel, which trims offsets.
func checkTrim(raw jsontext.Value) error {
	return decode(raw, new(struct {
		Type        string `json:"type"`
		PrefixSpace bool   `json:"add_prefix_space"`
		TrimOffsets bool   `json:"trim_offsets"`
		UseRegex    bool   `json:"use_regex"`
	}))
}

// parseTwoTokens parses BertProcessing and RobertaProcessing, which have the tokens
// cls and sep.
func (t *Tokenizer) parseTwoTokens(kind string, raw jsontext.Value) error {
	var v struct {
		Type        string           `json:"type"`
		Sep         []jsontext.Value `json:"sep"`
		Cls         []jsontext.Value `json:"cls"`
		TrimOffsets *bool            `json:"trim_offsets"`
		PrefixSpace *bool            `json:"add_prefix_space"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	if kind == "BertProcessing" && (v.TrimOffsets != nil || v.PrefixSpace != nil) {
		return errors.New("trim_offsets and add_prefix_space belong to RobertaProcessing")
	}
	cls, err := parseTokenAndID(v.Cls)
	if err != nil {
		return fmt.Errorf("cls: %w", err)
	}
	sep, err := parseTokenAndID(v.Sep)
	if err != nil {
		return fmt.Errorf("sep: %w", err)
	}
	if kind == "RobertaProcessing" {
		t.Single, t.Pair = robertaTemplates(cls, sep)
	} else {
		t.Single, t.Pair = bertTemplates(cls, sep)
	}
	return nil
}

// bertTemplates returns [CLS] A [SEP] and [CLS] A [SEP] B [SEP], where the second text
// has the type id 1.
func bertTemplates(cls, sep Piece) (single, pair []Piece) {
	end := sep
	end.TypeID = 1
	single = []Piece{cls, {Sequence: SequenceA}, sep}
	return single, append(slices.Clip(single), Piece{Sequence: SequenceB, TypeID: 1}, end)
}

// robertaTemplates returns <s> A </s> and <s> A </s></s> B </s>, where all type ids
// are 0.
func robertaTemplates(cls, sep Piece) (single, pair []Piece) {
	single = []Piece{cls, {Sequence: SequenceA}, sep}
	return single, append(slices.Clip(single), sep, Piece{Sequence: SequenceB}, sep)
}

// parseTokenAndID parses ["[SEP]", 102].
func parseTokenAndID(list []jsontext.Value) (p Piece, err error) {
	if len(list) != 2 {
		return p, fmt.Errorf("%d values, expected a token and its id", len(list))
	}
	if err := decode(list[0], &p.Token); err != nil {
		return p, err
	}
	if err := decode(list[1], &p.ID); err != nil {
		return p, err
	}
	return p, checkSpecial(p)
}

// checkSpecial checks the id and the text of a special token.
func checkSpecial(p Piece) error {
	if p.ID < 0 || p.ID > maxTokenID {
		return fmt.Errorf("token %.40q has the id %d, expected 0 to %d", p.Token, p.ID, maxTokenID)
	}
	return checkToken(p.Token)
}

// A pieceJSON is a piece in tokenizer.json: either SpecialToken or Sequence is set.
type pieceJSON struct {
	SpecialToken *struct {
		ID     *string `json:"id"`
		TypeID *int    `json:"type_id"`
	} `json:"SpecialToken"`
	Sequence *struct {
		ID     *Sequence `json:"id"`
		TypeID *int      `json:"type_id"`
	} `json:"Sequence"`
}

// specialJSON lists the tokens that a special token of a template stands for.
type specialJSON struct {
	ID     string   `json:"id"`
	IDs    []int    `json:"ids"`
	Tokens []string `json:"tokens"`
}

func (t *Tokenizer) parseTemplate(raw jsontext.Value) error {
	var v struct {
		Type    string                 `json:"type"`
		Single  []pieceJSON            `json:"single"`
		Pair    []pieceJSON            `json:"pair"`
		Special map[string]specialJSON `json:"special_tokens"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	special := make(map[string][]Piece, len(v.Special))
	for _, name := range sortedKeys(v.Special) {
		pieces, err := v.Special[name].pieces()
		if err != nil {
			return fmt.Errorf("special_tokens: %.40q: %w", name, err)
		}
		special[name] = pieces
	}
	var err error
	if t.Single, err = joinPieces(v.Single, special, SequenceA); err != nil {
		return fmt.Errorf("single: %w", err)
	}
	if t.Pair, err = joinPieces(v.Pair, special, SequenceA, SequenceB); err != nil {
		return fmt.Errorf("pair: %w", err)
	}
	return nil
}

// pieces returns the tokens that a special token stands for, usually itself.
func (s specialJSON) pieces() ([]Piece, error) {
	if len(s.IDs) != len(s.Tokens) || len(s.IDs) == 0 {
		return nil, fmt.Errorf("%d ids and %d tokens, expected the same number", len(s.IDs), len(s.Tokens))
	}
	pieces := make([]Piece, len(s.IDs))
	for i, id := range s.IDs {
		pieces[i] = Piece{Token: s.Tokens[i], ID: id}
		if err := checkSpecial(pieces[i]); err != nil {
			return nil, err
		}
	}
	return pieces, nil
}

// joinPieces returns a template. It checks that each of texts occurs once.
func joinPieces(list []pieceJSON, special map[string][]Piece, texts ...Sequence) ([]Piece, error) {
	var pieces []Piece
	for i, p := range list {
		some, err := p.pieces(special)
		if err != nil {
			return nil, fmt.Errorf("piece %d: %w", i, err)
		}
		if pieces = append(pieces, some...); len(pieces) > maxPieces {
			return nil, fmt.Errorf("more than %d pieces", maxPieces)
		}
	}
	var found []Sequence
	for _, p := range pieces {
		if p.Sequence != "" {
			found = append(found, p.Sequence)
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, texts) {
		return nil, fmt.Errorf("found the texts %v, expected each of %v once", found, texts)
	}
	return pieces, nil
}

// pieces returns the pieces that p stands for.
func (p pieceJSON) pieces(special map[string][]Piece) ([]Piece, error) {
	var typeID *int
	var pieces []Piece
	switch {
	case (p.SpecialToken == nil) == (p.Sequence == nil):
		return nil, errors.New("expected either SpecialToken or Sequence")
	case p.Sequence != nil:
		if p.Sequence.ID == nil {
			return nil, errors.New("the Sequence has no id")
		}
		typeID, pieces = p.Sequence.TypeID, []Piece{{Sequence: *p.Sequence.ID}}
	default:
		if p.SpecialToken.ID == nil {
			return nil, errors.New("the SpecialToken has no id")
		}
		typeID, pieces = p.SpecialToken.TypeID, slices.Clone(special[*p.SpecialToken.ID])
		if pieces == nil {
			return nil, fmt.Errorf("%.40q is not one of special_tokens", *p.SpecialToken.ID)
		}
	}
	if typeID == nil || *typeID < 0 || *typeID > maxTypeID {
		return nil, fmt.Errorf("type_id is missing or out of range, expected 0 to %d", maxTypeID)
	}
	for i := range pieces {
		pieces[i].TypeID = *typeID
	}
	return pieces, nil
}
