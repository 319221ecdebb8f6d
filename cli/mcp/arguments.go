package mcp

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mlxrank/mlxrank/internal/spelling"
)

// arguments are what the tool takes.
type arguments struct {
	Query      string   `json:"query"`
	Documents  []string `json:"documents"`
	Paths      []string `json:"paths"`
	TopN       integer  `json:"top_n"`
	DeadlineMS integer  `json:"deadline_ms"`
}

var argumentNames = []string{"query", "documents", "paths", "top_n", "deadline_ms"}

// defaultTopN is the number of results without top_n. An agent reads all results, and
// has little room for them.
const defaultTopN = 10

// An integer is at least 1, or 0 if it was not given. It reads 5.0 as 5, as JSON does
// and int does not.
type integer int

// UnmarshalJSON reads a number, or null.
func (n *integer) UnmarshalJSON(data []byte) error {
	var f *float64
	if err := json.Unmarshal(data, &f); err != nil || f == nil {
		return err
	}
	if *f < 1 || *f > math.MaxInt32 || *f != math.Trunc(*f) {
		return fmt.Errorf("found %v, expected a whole number from 1 to %d", *f, math.MaxInt32)
	}
	*n = integer(*f)
	return nil
}

// parseArguments reads and checks the arguments of a call. Errors hold no text of
// the client's, apart from names.
func parseArguments(data []byte) (arguments, error) {
	var in arguments
	if err := json.Unmarshal(data, &in, json.RejectUnknownMembers(true)); err != nil {
		return in, argumentError(err)
	}
	switch {
	case strings.TrimSpace(in.Query) == "":
		return in, errors.New("query is empty; give the text that documents are ranked for")
	case len(in.Documents) > 0 && len(in.Paths) > 0:
		return in, errors.New("documents and paths are both given; give one of them")
	case len(in.Documents) == 0 && len(in.Paths) == 0:
		return in, errors.New("there are no documents; give texts as documents, or files as paths")
	}
	if in.TopN == 0 {
		in.TopN = defaultTopN
	}
	return in, nil
}

// argumentError describes a fault of the arguments in the words of JSON.
func argumentError(err error) error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return fmt.Errorf("the arguments are not valid: %w", err)
	}
	name := strings.TrimPrefix(string(semantic.JSONPointer), "/")
	if errors.Is(err, json.ErrUnknownName) {
		return fmt.Errorf("there is no argument %q%s; the arguments are %s", name, spelling.Hint(name, argumentNames, "%s"), strings.Join(argumentNames, ", "))
	}
	if name == "" {
		return fmt.Errorf("the arguments are %s, expected an object", kindName(semantic.JSONKind))
	}
	expected := "a string"
	switch name {
	case "documents", "paths":
		expected = "an array of strings"
	case "top_n", "deadline_ms":
		expected = "a whole number from 1"
	}
	return fmt.Errorf("%s is %s, expected %s", name, kindName(semantic.JSONKind), expected)
}

// kindName names a kind of JSON value.
func kindName(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	}
	return "missing"
}
