package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An Object maps the names of a JSON object to undecoded values. The last of several
// values of a name counts, as in other JSON readers.
type Object map[string]json.RawMessage

// ParseObject parses a line that must be one JSON object.
func ParseObject(line []byte) (Object, error) {
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) == 0 {
		return nil, errors.New("not a JSON object: it is blank")
	}
	if trimmed[0] != '{' {
		first, _ := utf8.DecodeRune(trimmed)
		return nil, fmt.Errorf("not a JSON object: it starts with %q", first)
	}
	var o Object
	err := json.Unmarshal(line, &o)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("malformed JSON at byte %d: %w", syntax.Offset, err)
	}
	if err != nil {
		return nil, fmt.Errorf("malformed JSON: %w", err)
	}
	return o, nil
}

// Text returns the string of a field.
func (o Object) Text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", fmt.Errorf("field %q is missing", name)
	}
	var s string
	if raw[0] != '"' {
		return "", fmt.Errorf("field %q is not a string: %s", name, Abridge(raw))
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("field %q: %w", name, err)
	}
	return s, nil
}

// documentText returns the text of a document and its fields: "document", or else
// "text" after an optional "title", as in BEIR's readers.
func (o Object) documentText() (text, source string, err error) {
	if _, ok := o["document"]; ok {
		text, err = o.Text("document")
		return text, "document", err
	}
	if _, ok := o["text"]; !ok {
		return "", "", errors.New(`fields "document" and "text" are missing; give one`)
	}
	if text, err = o.Text("text"); err != nil {
		return "", "", err
	}
	if raw, ok := o["title"]; !ok || string(raw) == "null" {
		return text, "text", nil
	}
	title, err := o.Text("title")
	if err != nil {
		return "", "", err
	}
	return titled(title, text), "title and text", nil
}

// titled joins the title and the text of a document, as BEIR does.
func titled(title, text string) string { return strings.TrimSpace(title + " " + text) }

// firstText returns the text and the name of the first field that the object has.
func (o Object) firstText(names ...string) (text, source string, err error) {
	for _, name := range names {
		if _, ok := o[name]; ok {
			text, err = o.Text(name)
			return text, name, err
		}
	}
	return "", "", fmt.Errorf("field %q is missing", names[0])
}

// firstID returns the id in the first field that the object has.
func (o Object) firstID(names ...string) (string, error) {
	for _, name := range names {
		if raw, ok := o[name]; ok && string(raw) != "null" {
			return o.id(name)
		}
	}
	return "", fmt.Errorf("field %q is missing", names[0])
}

// has returns the first of the names that is a field with a value, or "".
func (o Object) has(names []string) string {
	for _, name := range names {
		if raw, ok := o[name]; ok && string(raw) != "null" {
			return name
		}
	}
	return ""
}

// Abridge returns the beginning of a text for a message.
func Abridge(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
	}
	return string(raw)
}

// id returns the id in a field: a string, or the digits of a number.
func (o Object) id(name string) (string, error) {
	raw := o[name]
	if len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
		return string(raw), nil
	}
	return o.Text(name)
}

// appendFields appends object with more fields at its end, and otherwise unchanged.
func appendFields(dst, object []byte, fields string) []byte {
	end := bytes.LastIndexByte(object, '}')
	dst = append(dst, object[:end]...)
	dst = append(dst, fields...)
	return append(dst, object[end:]...)
}

// replaceScore appends object with every value of "score" replaced: a reader may take
// the first or the last of two fields with one name. All other bytes stay. ParseObject
// must have accepted object.
func replaceScore(dst, object, score []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil { // the brace
		return nil, err
	}
	kept := 0 // bytes of object that are in dst
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var old json.RawMessage
		if err := decoder.Decode(&old); err != nil {
			return nil, err
		}
		if key == "score" {
			end := int(decoder.InputOffset())
			dst = append(dst, object[kept:end-len(old)]...)
			dst = append(dst, score...)
			kept = end
		}
	}
	return append(dst, object[kept:]...), nil
}
