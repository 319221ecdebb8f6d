package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bodies are decoded by json/v2, whose defaults are what a body needs to mean
// one thing: names match exactly, a name occurs once in an object, and text is
// UTF-8 without lone surrogates. huma decodes a body twice, once to validate it
// and once into the route's type; both go through unmarshal.

// huma's validation would otherwise find "QUERY" where the schema has "query",
// which the route's type does not.
func init() { huma.ValidateStrictCasing = true }

// isJinas reports whether a body of a path that takes both is in Jina's format,
// which has documents, and not in that of text-embeddings-inference, which has
// texts. Of a body that is not JSON, what comes before the fault decides.
func isJinas(body []byte) bool {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(body))
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != '{' {
		return false
	}
	documents := false
	for decoder.PeekKind() == '"' {
		name, err := decoder.ReadToken()
		if err != nil {
			return documents
		}
		if name.String() == "texts" {
			return false
		}
		documents = documents || name.String() == "documents"
		if err := decoder.SkipValue(); err != nil {
			return documents
		}
	}
	return documents
}

// maxNesting is the depth at which text-embeddings-inference's parser stops too.
const maxNesting = 128

var byteOrderMark = []byte("\ufeff")

// unmarshal decodes a body, or a value inside one.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return err
	}
	at := int(syntax.ByteOffset)
	switch {
	case errors.Is(syntax, jsontext.ErrDuplicateName):
		return fmt.Errorf("byte %d: name %q occurs twice in an object", at, syntax.JSONPointer.LastToken())
	case isInvalidUTF8(data, at):
		return fmt.Errorf("byte %d: 0x%02x is not UTF-8; send the body in UTF-8", at, data[at])
	}
	return fmt.Errorf("byte %d: %w", at, syntax.Err)
}

func isInvalidUTF8(data []byte, at int) bool {
	if at >= len(data) {
		return false
	}
	r, size := utf8.DecodeRune(data[at:])
	return r == utf8.RuneError && size == 1
}

// checkBody refuses a body that would take many times its bytes to decode: one
// of very many values, as "[[],[],[]...]" is, or of deeply nested ones.
func (l Limits) checkBody(body []byte) *failure {
	most := valuesPerDocument * (l.Documents + 10)
	values, depth := measure(body)
	if values > most {
		return failf(http.StatusRequestEntityTooLarge, kindValidation, "too many JSON values: %d (limit %d); split the request", values, most)
	}
	if depth > maxNesting {
		return failf(http.StatusBadRequest, kindValidation, "JSON values are nested too deeply: %d levels (limit %d)", depth, maxNesting)
	}
	return nil
}

// valuesPerDocument is more JSON values than any client sends with a document.
const valuesPerDocument = 100

// measure counts what begins values, outside of strings, and their depth.
func measure(body []byte) (values, deepest int) {
	values = 1
	depth, inside := 0, false
	for i := 0; i < len(body); i++ {
		switch b := body[i]; {
		case b == '"':
			inside = !inside
		case inside && b == '\\':
			i++
		case inside:
		case b == ',':
			values++
		case b == '[' || b == '{':
			values++
			depth++
			deepest = max(deepest, depth)
		case b == ']' || b == '}':
			depth--
		}
	}
	return values, deepest
}
