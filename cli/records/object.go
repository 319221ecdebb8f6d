package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Object holds the members of a JSON object, undecoded. Of a name that appears
// twice the last counts, as in other JSON readers.
type Object map[string]json.RawMessage

// ParseObject reads a line that must be one JSON object.
func ParseObject(line []byte) (Object, error) {
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) == 0 {
		return nil, errors.New("not a JSON object, it is blank")
	}
	if trimmed[0] != '{' {
		return nil, fmt.Errorf("not a JSON object, it starts with %q", firstRune(trimmed))
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

func firstRune(text []byte) rune {
	return bytes.Runes(text[:min(len(text), 4)])[0]
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

// documentText is the text of a document's object, and the fields it is made of:
// "document", or else "text", with "title" before it as BEIR's readers put it.
func (o Object) documentText() (text, source string, err error) {
	if _, ok := o["document"]; ok {
		text, err = o.Text("document")
		return text, "document", err
	}
	if _, ok := o["text"]; !ok {
		return "", "", errors.New(`field "document" is missing, and "text" too`)
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

// firstText is the text of the first of some fields that the object has.
func (o Object) firstText(names ...string) (text, source string, err error) {
	for _, name := range names {
		if _, ok := o[name]; ok {
			text, err = o.Text(name)
			return text, name, err
		}
	}
	return "", "", fmt.Errorf("field %q is missing", names[0])
}

// firstID is the first of some fields that the object has, as an id.
func (o Object) firstID(names ...string) (string, error) {
	for _, name := range names {
		if raw, ok := o[name]; ok && string(raw) != "null" {
			return o.id(name)
		}
	}
	return "", fmt.Errorf("field %q is missing", names[0])
}

// Abridge is the beginning of a text, short enough for a message.
func Abridge(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
	}
	return string(raw)
}

// id returns a field that names something: a string, or a number as it is
// written.
func (o Object) id(name string) (string, error) {
	raw := o[name]
	if len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
		return string(raw), nil
	}
	return o.Text(name)
}

// appendFields appends the object with more fields at its end. Every byte of
// object stays as it is.
func appendFields(dst, object []byte, fields string) []byte {
	end := bytes.LastIndexByte(object, '}')
	dst = append(dst, object[:end]...)
	dst = append(dst, fields...)
	return append(dst, object[end:]...)
}

// replaceScore appends the object with the value of "score" replaced wherever
// the object has it, so that readers who take the first of two fields of one
// name and readers who take the last see the same. Every other byte stays as it
// is. The object must be one that ParseObject has read.
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
