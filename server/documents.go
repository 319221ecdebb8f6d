package server

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A document of Jina's and Cohere's APIs is a text, or an object with fields.
type document struct {
	text   string
	object jsontext.Value // as it came; nil for a text
	fields map[string]jsontext.Value
}

// defaultField is the field of an object that is ranked when a request names
// none. It must be a string then.
const defaultField = "text"

func objectSchema() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		// Any type is accepted, because rank_fields may leave the field out.
		Properties: map[string]*huma.Schema{defaultField: {Description: "The text to rank, a string, unless rank_fields names other fields"}},
	}
}

// Schema describes a text, or an object.
func (document) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, objectSchema()}}
}

// UnmarshalJSON reads either form.
func (d *document) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return unmarshal(data, &d.text)
	}
	d.object = bytes.Clone(data)
	return unmarshal(data, &d.fields)
}

// texts returns the text of each document that is ranked.
func texts(documents []document, fields []string) ([]string, *failure) {
	list := make([]string, len(documents))
	for i := range documents {
		d := &documents[i]
		if value, ok := d.fields[defaultField]; ok && len(fields) == 0 && value.Kind() != '"' {
			return nil, failf(http.StatusUnprocessableEntity, kindValidation, "document %d: field %q is %s, expected a string; name the fields to rank in rank_fields", i, defaultField, kindName(value.Kind()))
		}
		var ok bool
		if list[i], ok = d.ranked(fields); ok {
			continue
		}
		if len(fields) == 0 {
			return nil, failf(http.StatusUnprocessableEntity, kindValidation, "document %d has no field %q; name the fields to rank in rank_fields", i, defaultField)
		}
		return nil, failf(http.StatusUnprocessableEntity, kindValidation, "document %d has none of the fields of rank_fields: %s", i, strings.Join(fields, ", "))
	}
	return list, nil
}

// kindName names a JSON value that is not a string.
func kindName(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "a boolean"
}

// ranked returns the text of a document that is ranked: the document itself if it
// is a text; the value of a single field; or the lines "name: value" of the fields
// that the object has, in the order asked for, which is the YAML that Cohere's
// reference describes. ok is false if the object has none of the fields.
func (d *document) ranked(fields []string) (text string, ok bool) {
	if d.object == nil {
		return d.text, true
	}
	if len(fields) == 0 {
		fields = []string{defaultField}
	}
	var lines []string
	for _, name := range fields {
		value, ok := fieldText(d.fields[name])
		switch {
		case !ok:
		case len(fields) == 1:
			return value, true
		default:
			lines = append(lines, name+": "+value)
		}
	}
	return strings.Join(lines, "\n"), len(lines) > 0
}

// fieldText returns a string's value, and the JSON of any other value, which is
// YAML too; ok is false for null and for a missing field.
func fieldText(value jsontext.Value) (text string, ok bool) {
	switch value.Kind() {
	case '"':
		return text, json.Unmarshal(value, &text) == nil
	case 'n', 0: // 0 is no value
		return "", false
	}
	return string(value), true
}

// An answeredDocument is the object of the request, or an object that holds the
// request's text.
type answeredDocument struct{ *document }

// Schema describes the object.
func (answeredDocument) Schema(huma.Registry) *huma.Schema { return objectSchema() }

// MarshalJSON writes the object.
func (a answeredDocument) MarshalJSON() ([]byte, error) {
	if a.object != nil {
		return a.object, nil
	}
	return json.Marshal(map[string]string{defaultField: a.text})
}

// answered returns nil unless the request asks for documents.
func answered(d *document, asked bool) *answeredDocument {
	if !asked {
		return nil
	}
	return &answeredDocument{d}
}
