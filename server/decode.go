package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
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

// A parsedBody is a body with the JSON value that it has.
type parsedBody struct {
	data  []byte
	value any
	err   error // the body is not JSON
}

func parseBody(data []byte) *parsedBody {
	b := &parsedBody{data: data}
	b.err = unmarshal(data, &b.value)
	return b
}

// fields are the values of a body by name.
type fields map[string]any

// has reports whether the body has one of the fields, be it null.
func (f fields) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := f[name]; return ok })
}

// format returns the first of the formats that matches the body, or the first of all.
func (b *parsedBody) format(formats []*format) *format {
	if len(formats) > 1 {
		found := b.fields()
		for _, f := range formats {
			if f.matches(found) {
				return f
			}
		}
	}
	return formats[0]
}

// fields returns the fields of the body. If it is not JSON, they are the ones before
// the fault, without their values.
func (b *parsedBody) fields() fields {
	if b.err == nil {
		object, _ := b.value.(map[string]any) // nil of another value
		return object
	}
	found := make(fields)
	decoder := jsontext.NewDecoder(bytes.NewBuffer(b.data))
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != '{' {
		return found
	}
	for decoder.PeekKind() == '"' {
		name, err := decoder.ReadToken()
		if err != nil {
			return found
		}
		found[name.String()] = nil
		if err := decoder.SkipValue(); err != nil {
			return found
		}
	}
	return found
}

// decode validates a body against a schema and decodes it into v.
func (s *Server) decode(schema *huma.Schema, body *parsedBody, v any) *failure {
	if len(body.data) == 0 {
		return failf(http.StatusBadRequest, kindValidation, "request body is required")
	}
	if body.err != nil {
		return failValidation(http.StatusBadRequest, body.err)
	}
	path, result := huma.NewPathBuffer(nil, 0), huma.ValidateResult{}
	path.Push("body")
	huma.Validate(s.schemas, schema, path, huma.ModeWriteToServer, body.value, &result)
	if len(result.Errors) > 0 {
		return failValidation(http.StatusUnprocessableEntity, result.Errors...)
	}
	if err := unmarshal(body.data, v); err != nil {
		return failValidation(http.StatusUnprocessableEntity, err)
	}
	return nil
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
