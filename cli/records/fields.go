package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fields names the fields of objects, or the columns of tables, that hold the parts of
// a pair. An empty name selects the usual names.
type Fields struct {
	QueryID, DocumentID string
	Query, Document     *Template
}

// any reports whether a name is given.
func (f Fields) any() bool { return f != Fields{} }

// Of returns the fields of a file of queries, or of documents, alone.
func (f Fields) Of(queries bool) Fields {
	if queries {
		return Fields{QueryID: f.QueryID, Query: f.Query}
	}
	return Fields{DocumentID: f.DocumentID, Document: f.Document}
}

// names lists the names that are given.
func (f Fields) names() []string {
	var names []string
	for _, name := range []string{f.QueryID, f.DocumentID} {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, t := range []*Template{f.Query, f.Document} {
		if t != nil {
			names = append(names, t.names...)
		}
	}
	return names
}

// query returns the query of an object.
func (f Fields) query(o Object) (string, error) {
	if f.Query == nil {
		return o.Text("query")
	}
	text, _, err := f.Query.join(o)
	return text, err
}

// document returns the document of an object and its fields.
func (f Fields) document(o Object) (text, source string, err error) {
	if f.Document == nil {
		return o.documentText()
	}
	return f.Document.join(o)
}

// queryID returns the id of a pair's query, or "".
func (f Fields) queryID(o Object) (string, error) { return o.ownID(f.QueryID, queryOwnIDs) }

// documentID returns the id of a pair's document, or "".
func (f Fields) documentID(o Object) (string, error) { return o.ownID(f.DocumentID, documentOwnIDs) }

// ownID returns the id in a field, or else in the first of the usual fields, or "".
func (o Object) ownID(name string, usual []string) (string, error) {
	if name == "" {
		if name = o.has(usual); name == "" {
			return "", nil
		}
	}
	return o.id(name)
}

// A Template makes a text from fields.
type Template struct {
	parts []string // text, field, text, ..., text; nil for a list
	names []string // of the fields
}

// ParseTemplate parses a list of fields, as in title,body, whose texts a space joins,
// or a text with fields in braces, as in "{title}: {body}". Doubled braces are braces.
func ParseTemplate(s string) (*Template, error) {
	t := &Template{}
	if !strings.ContainsAny(s, "{}") {
		for name := range strings.SplitSeq(s, ",") {
			if name = strings.TrimSpace(name); name == "" {
				return nil, fmt.Errorf("%q has an empty name; expected names with commas between, as in title,body", s)
			}
			t.names = append(t.names, name)
		}
		return t, nil
	}
	var text strings.Builder
	for rest := s; rest != ""; {
		at := strings.IndexAny(rest, "{}")
		if at < 0 {
			text.WriteString(rest)
			break
		}
		text.WriteString(rest[:at])
		brace := rest[at : at+1]
		if rest = rest[at+1:]; strings.HasPrefix(rest, brace) {
			text.WriteString(brace)
			rest = rest[1:]
			continue
		}
		name, after, ok := strings.Cut(rest, "}")
		if name = strings.TrimSpace(name); brace == "}" || !ok || name == "" || strings.Contains(name, "{") {
			return nil, fmt.Errorf("%q has a brace without a field's name; expected a text such as {title}: {body}, with {{ for a brace", s)
		}
		t.parts, t.names = append(t.parts, text.String(), name), append(t.names, name)
		text.Reset()
		rest = after
	}
	if len(t.names) == 0 {
		return nil, fmt.Errorf("%q names no field; expected a text such as {title}: {body}", s)
	}
	t.parts = append(t.parts, text.String())
	return t, nil
}

// join returns the text of an object and the names of its fields. Every field must
// exist; null has no text. A list skips fields without text.
func (t *Template) join(o Object) (text, source string, err error) {
	texts := make(map[string]string, len(t.names))
	var list []string
	for _, name := range t.names {
		if texts[name], err = o.cell(name); err != nil {
			return "", "", err
		}
		if s := strings.TrimSpace(texts[name]); s != "" {
			list = append(list, s)
		}
	}
	source = strings.Join(t.names, " and ")
	if t.parts == nil {
		if len(t.names) == 1 {
			return texts[t.names[0]], source, nil
		}
		return strings.Join(list, " "), source, nil
	}
	var b strings.Builder
	for i, part := range t.parts {
		if i%2 == 1 {
			part = texts[part]
		}
		b.WriteString(part)
	}
	return b.String(), source, nil
}

// cell returns the text of a field: a string, the digits of a number, true, false, the
// strings of a list with ", " between, or nothing for null.
func (o Object) cell(name string) (string, error) {
	raw, ok := o[name]
	switch {
	case !ok:
		return "", fmt.Errorf("field %q is missing; found %s", name, o.fieldNames())
	case string(raw) == "null":
		return "", nil
	case raw[0] == '[':
		var list []string
		if err := json.Unmarshal(raw, &list); err != nil {
			return "", fmt.Errorf("field %q is a list of other values than strings: %s", name, Abridge(raw))
		}
		return strings.Join(list, ", "), nil
	case raw[0] == '{':
		return "", fmt.Errorf("field %q is an object: %s; expected text", name, Abridge(raw))
	case raw[0] == '"':
		return o.Text(name)
	}
	return string(raw), nil
}

// fieldNames lists the first names of an object.
func (o Object) fieldNames() string {
	const most = 12
	var names []string
	for name := range o {
		names = append(names, Abridge([]byte(name)))
	}
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], "...")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// errFields reports names of fields for a format without names.
var errFields = errors.New("its columns have no names; remove the flags that name fields")
