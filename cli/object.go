package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// fields are the members of a JSON object, undecoded. Of a name that appears
// twice the last counts, as in other JSON readers.
type fields map[string]json.RawMessage

// parseObject reads a line that must be one JSON object.
func parseObject(line []byte) (fields, error) {
	if trimmed := bytes.TrimSpace(line); trimmed[0] != '{' {
		return nil, fmt.Errorf("not a JSON object, it starts with %q", firstRune(trimmed))
	}
	var f fields
	err := json.Unmarshal(line, &f)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("malformed JSON at byte %d: %w", syntax.Offset, err)
	}
	if err != nil {
		return nil, fmt.Errorf("malformed JSON: %w", err)
	}
	return f, nil
}

func firstRune(text []byte) rune {
	return bytes.Runes(text[:min(len(text), 4)])[0]
}

// text returns the string of a field.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	if !ok {
		return "", fmt.Errorf("field %q is missing", name)
	}
	var s string
	if raw[0] != '"' {
		return "", fmt.Errorf("field %q is not a string: %s", name, abridge(raw))
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("field %q: %w", name, err)
	}
	return s, nil
}

func abridge(raw []byte) string {
	const most = 40
	if text := bytes.ToValidUTF8(raw, nil); len(text) > most {
		return string(bytes.ToValidUTF8(text[:most], nil)) + "..."
	}
	return string(raw)
}

// appendField returns the object with a field added at its end. Every byte of
// object stays as it is.
func appendField(object []byte, name string, value float32) ([]byte, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("field %q: %w", name, err)
	}
	end := bytes.LastIndexByte(object, '}')
	out := make([]byte, 0, len(object)+len(name)+len(encoded)+8)
	out = append(out, object[:end]...)
	out = append(out, `, "`+name+`": `...)
	out = append(out, encoded...)
	return append(out, object[end:]...), nil
}
