package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// object maps the field names of a JSON object to their values.
type object map[string]jsontext.Value

// readObject returns the fields of an object. If the field called nested is an
// object, readObject returns its fields as inner.
func readObject(dec *jsontext.Decoder, nested string) (fields, inner object, err error) {
	if kind := dec.PeekKind(); kind != '{' && kind != 0 {
		return nil, nil, fmt.Errorf("found %s, expected an object", kindName(kind))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, err
	}
	fields = object{}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		name := token.String()
		if _, ok := fields[name]; ok {
			return nil, nil, fmt.Errorf("key %.40q occurs twice", name)
		}
		if nested != "" && name == nested && dec.PeekKind() == '{' {
			if inner, _, err = readObject(dec, ""); err != nil {
				return nil, nil, err
			}
			fields[name] = nil
			continue
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, nil, err
		}
		fields[name] = value.Clone()
	}
	_, err = dec.ReadToken()
	return fields, inner, err
}

// splitFields returns the fields of the one JSON object that data consists of.
// It rejects a key that occurs twice, at any depth.
func splitFields(data []byte) (map[string]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	fields, _, err := readObject(dec, "")
	if err != nil {
		return nil, badJSON(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not valid JSON: something follows the object at byte %d", dec.InputOffset())
	}
	return fields, nil
}

// decodeField decodes a field that may be absent.
func decodeField(fields map[string]jsontext.Value, name string, to any) error {
	if err := decodeKnown(fields[name], to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// decodeKnown decodes a JSON value that may be absent. It ignores members that
// to has no field for.
func decodeKnown(raw jsontext.Value, to any) error {
	if len(raw) == 0 {
		return nil
	}
	return plainJSON(json.Unmarshal(raw, to))
}

// decode decodes a JSON value that may be absent. It rejects unknown fields.
func decode(raw jsontext.Value, to any) error {
	if len(raw) == 0 {
		return nil
	}
	return plainJSON(json.Unmarshal(raw, to, json.RejectUnknownMembers(true)))
}

// unquote returns the value of a JSON string, "" for any other JSON value.
func unquote(raw jsontext.Value) string {
	var s string
	if raw.Kind() == '"' && decode(raw, &s) == nil {
		return s
	}
	return ""
}

// badJSON describes an error of the JSON parser in terms of the file.
func badJSON(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("not valid JSON: it is empty")
	}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return err
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return fmt.Errorf("key %.200q occurs twice", strings.TrimPrefix(string(syntax.JSONPointer), "/"))
	}
	return fmt.Errorf("not valid JSON near byte %d: %w", syntax.ByteOffset, syntax.Err)
}

func isNull(raw jsontext.Value) bool { return len(raw) == 0 || raw.Kind() == 'n' }

// checkObject checks that raw is an object or absent; scoring does not use it.
func checkObject(raw jsontext.Value) error {
	var v map[string]any
	return decode(raw, &v)
}

// plainJSON describes an error of json.Unmarshal in terms of the file.
func plainJSON(err error) error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return badJSON(err)
	}
	where := ""
	if p := string(semantic.JSONPointer); p != "" {
		where = fmt.Sprintf("field %.200q: ", strings.TrimPrefix(p, "/"))
	}
	if errors.Is(err, json.ErrUnknownName) {
		return fmt.Errorf("%sunknown field; it may change token ids", where)
	}
	if semantic.Err != nil {
		return fmt.Errorf("%s%w", where, semantic.Err)
	}
	return fmt.Errorf("%sfound %s, expected %s", where, kindName(semantic.JSONKind), jsonKind(semantic.GoType))
}

// kindName names the kind of a JSON value.
func kindName(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	}
	return "an object"
}

// readType returns the field "type" of a JSON object, "" if there is none.
func readType(raw jsontext.Value) string {
	var v struct {
		Type string `json:"type"`
	}
	if isNull(raw) || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	return v.Type
}

func orNone(kind string) string {
	if kind == "" {
		return "none"
	}
	return fmt.Sprintf("%.40q", kind)
}

// quote returns a string as JSON.
func quote(s string) []byte {
	out, err := jsontext.AppendQuote(nil, s)
	if err != nil { // not UTF-8; the parser has rejected that
		panic(err)
	}
	return out
}
