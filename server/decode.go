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

// Bodies are decoded by json/v2, whose defaults make a body mean one thing: names
// match exactly, a name occurs once in an object, and text is UTF-8 without lone
// surrogates. A body is decoded twice by unmarshal: once to validate it against
// the schema, and once into the format's type.

// Without it huma's validation would accept "QUERY" where the schema has "query",
// which the format's type does not.
func init() { huma.ValidateStrictCasing = true }

// decode validates a body against a schema and decodes it into v.
func (s *Server) decode(schema *huma.Schema, body []byte, v any) *failure {
	if len(body) == 0 {
		return failf(http.StatusBadRequest, kindValidation, "request body is required")
	}
	var parsed any
	if err := unmarshal(body, &parsed); err != nil {
		return failValidation(http.StatusBadRequest, err)
	}
	path, result := huma.NewPathBuffer(nil, 0), huma.ValidateResult{}
	path.Push("body")
	huma.Validate(s.schemas, schema, path, huma.ModeWriteToServer, parsed, &result)
	if len(result.Errors) > 0 {
		return failValidation(http.StatusUnprocessableEntity, result.Errors...)
	}
	if err := unmarshal(body, v); err != nil {
		return failValidation(http.StatusUnprocessableEntity, err)
	}
	return nil
}

// isJinas reports whether a body is in Jina's format, which has documents, and not
// in TEI's, which has texts. In a body that is not JSON, the part before the fault
// decides.
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

// maxNesting is the depth at which TEI's parser stops too.
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

// checkBody rejects a body that would take many times its size to decode, because
// it has very many values, as "[[],[],[]...]" has, or deeply nested ones.
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

// measure counts the JSON values of a body, and the levels of the deepest. The
// body need not be JSON.
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
