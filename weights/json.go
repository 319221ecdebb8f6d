package weights

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// object maps the field names of a JSON object to their values.
type object map[string]jsontext.Value

// readMembers calls take for each member of an object, whose value take reads. It
// rejects a key that occurs twice.
func readMembers(dec *jsontext.Decoder, take func(name string) error) error {
	if kind := dec.PeekKind(); kind != '{' && kind != 0 {
		return fmt.Errorf("found %s, expected a JSON object", kindName(kind))
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if seen[name] {
			return fmt.Errorf("key %.40q occurs twice", name)
		}
		seen[name] = true
		if err := take(name); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// readObject returns the fields of an object.
func readObject(dec *jsontext.Decoder) (object, error) {
	fields := object{}
	err := readMembers(dec, func(name string) error {
		value, err := dec.ReadValue()
		fields[name] = value.Clone()
		return err
	})
	return fields, err
}

// atEnd returns err, or an error if anything follows the object that dec has read.
func atEnd(dec *jsontext.Decoder, err error) error {
	if err != nil {
		return badJSON(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("not valid JSON: something follows the object at byte %d", dec.InputOffset())
	}
	return nil
}

// splitFields returns the fields of the one JSON object that data consists of.
// It rejects a key that occurs twice, at any depth.
func splitFields(data []byte) (map[string]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	fields, err := readObject(dec)
	return fields, atEnd(dec, err)
}

// A member is a key and a value of a JSON object.
type member struct {
	key   string
	value jsontext.Value
}

// splitObject returns the members of a JSON object in the order of the text. It
// rejects a key that occurs twice, but not inside a value.
func splitObject(data []byte) (members []member, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	err = readMembers(dec, func(name string) error {
		value, err := dec.ReadValue()
		members = append(members, member{name, value.Clone()})
		return err
	})
	return members, atEnd(dec, err)
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

// jsonError describes an error of json.Unmarshal in terms of the file.
func jsonError(err error) error {
	var syntax *stdjson.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON near byte %d: %w", syntax.Offset, err)
	}
	var found *stdjson.UnmarshalTypeError
	if !errors.As(err, &found) {
		return err
	}
	if found.Field == "" {
		return fmt.Errorf("found %s, expected %s", found.Value, jsonKind(found.Type))
	}
	return fmt.Errorf("field %q: found %s, expected %s", found.Field, found.Value, jsonKind(found.Type))
}

// jsonKind names the kind of JSON value that a Go type is decoded from.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.Uint64:
		return "whole number, not negative"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "array"
	}
	return "object"
}
