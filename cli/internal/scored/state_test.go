package scored

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestState(t *testing.T) {
	sum := bytes.Repeat([]byte{7}, sha256.Size)
	encode := base64.StdEncoding.EncodeToString
	good := `{"version":1,"settings":[{"name":"a","value":"b"}],"input":{"bytes":1,"sha256":"` + encode(sum) + `","lines":2},` +
		`"output":{"bytes":3,"sha256":"` + encode(sum) + `"},"records":4,"skipped":5}`
	s, err := parseState([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if s.Settings[0] != (Setting{"a", "b"}) || s.Input.Bytes != 1 || s.Input.Lines != 2 || s.Output.Bytes != 3 || s.Records != 4 || s.Skipped != 5 || !bytes.Equal(s.Output.Sum, sum) {
		t.Errorf("got %+v", s)
	}
	for old, changed := range map[string]string{
		`"version":1`: `"version":2`, `"records":4`: `"records":-4`, `"lines":2`: `"lines":1.5`, `"skipped":5}`: `"skipped":5}{}`,
		`"settings"`: `"other"`, `"output":{"bytes":3,"sha256":"` + encode(sum): `"output":{"bytes":3,"sha256":"` + encode(sum[:31]),
	} {
		if _, err := parseState([]byte(strings.Replace(good, old, changed, 1))); err == nil {
			t.Errorf("no error for %s", changed)
		}
	}
}

func TestDifferences(t *testing.T) {
	was := []Setting{{"a", "1"}, {"b", "2"}, {"c", "3"}}
	is := []Setting{{"c", "4"}, {"d", "5"}, {"a", "1"}}
	want := []string{"b was 2 and is not there", "c was 3 and is 4", "d was not there and is 5"}
	if got := Differences(was, is); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Differences(was, was); got != nil {
		t.Errorf("got %q, want none", got)
	}
}

// FuzzState checks that any bytes give an error, or a state that is the same after it
// is written and read again.
func FuzzState(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		if s.Input.Bytes < 0 || s.Input.Lines < 0 || s.Output.Bytes < 0 || s.Records < 0 || s.Skipped < 0 {
			t.Errorf("negative: %+v", s)
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseState(written)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%s\nis read as %+v, %v\nand was    %+v", written, again, err, s)
		}
		Differences(s.Settings, nil)
	})
}
