package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// A member is a key and a value of a JSON object.
type member struct {
	key   string
	value json.RawMessage
}

// splitObject returns the members of a JSON object in the order of the text.
// Unlike json.Unmarshal it rejects a key that occurs twice.
func splitObject(data []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	open, err := dec.Token()
	if err != nil {
		return nil, notJSON(dec, err)
	}
	if open != json.Delim('{') {
		return nil, fmt.Errorf("found %s, expected a JSON object", kind(open))
	}
	var members []member
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, notJSON(dec, err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("not valid JSON at byte %d: found %s, expected a key", dec.InputOffset(), kind(token))
		}
		if seen[key] {
			return nil, fmt.Errorf("key %q occurs twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, notJSON(dec, err)
		}
		members = append(members, member{key, value})
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, notJSON(dec, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not valid JSON: something follows the object at byte %d", dec.InputOffset())
	}
	return members, nil
}

func notJSON(dec *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not valid JSON near byte %d: %w", dec.InputOffset(), err)
}

// kind names the kind of a JSON token.
func kind(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return "an array"
		}
		return "an object"
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	}
	return "null"
}

// jsonError describes an error of json.Unmarshal in terms of the file.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON near byte %d: %w", syntax.Offset, err)
	}
	var found *json.UnmarshalTypeError
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
