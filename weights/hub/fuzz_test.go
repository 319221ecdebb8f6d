package hub

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzInfo checks that no file name in the hub's description of a model leads out
// of the directory that it is joined to.
func FuzzInfo(f *testing.F) {
	for _, seed := range []string{
		`{"sha":"c5ee24cb16019beea0893ab7796b1df96625c6b8","siblings":[{"rfilename":"config.json"},{"rfilename":"tokenizer.json"},{"rfilename":"model.safetensors"}]}`,
		`{"sha":"c5ee24cb16019beea0893ab7796b1df96625c6b8","siblings":[{"rfilename":"../config.json"},{"rfilename":"/etc/passwd"},{"rfilename":"a\\..\\b"},{"rfilename":"."},{"rfilename":""}]}`,
		`{"sha":"../../../x","siblings":null}`, `{"sha":null}`, `{"siblings":[null,{},{"rfilename":7}]}`, `[]`, `{`, ``, `null`,
		`{"sha":"c5ee24cb16019beea0893ab7796b1df96625c6b8","siblings":[{"rfilename":"config.json"},{"rfilename":"tokenizer.json"},{"rfilename":"pytorch_model.bin"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parseInfo(data)
		if err != nil {
			return
		}
		if !commitPattern.MatchString(in.commit) {
			t.Errorf("commit %q", in.commit)
		}
		for name := range in.files {
			checkInside(t, name)
		}
		small, weights, err := in.choose()
		if err == nil && (len(small) < 2 || weights != weightsFile && weights != indexFile) {
			t.Errorf("chose %q and %q", small, weights)
		}
	})
}

// FuzzIndex checks that the shards of an index are in its directory.
func FuzzIndex(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"total_size":7},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`,
		`{"weight_map":{"a":"../x.safetensors"}}`, `{"weight_map":{"a":"d/x.safetensors"}}`, `{"weight_map":{"a":"x.bin"}}`,
		`{"weight_map":{}}`, `{"weight_map":[]}`, `{"weight_map":{"a":7}}`, `{}`, ``, `null`, `{"weight_map":{"a":".safetensors","a":"\u0000.safetensors"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := parseIndex(data)
		if err == nil && len(names) == 0 {
			t.Error("no names and no error")
		}
		for i, name := range names {
			checkInside(t, name)
			if strings.Contains(name, "/") || i > 0 && names[i-1] >= name {
				t.Errorf("names %q", names)
			}
		}
	})
}

// FuzzParseRef checks that no reference leads out of the cache.
func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{"cross-encoder/ms-marco-MiniLM-L-6-v2", "a/b@refs/pr/1", "../a", "a/b@../x", "a/b@.", "a--b/c", "a/b@x\x00"} {
		f.Add(seed)
	}
	c := &Client{cache: "/cache"}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		if err != nil {
			return
		}
		if filepath.Dir(c.repo(ref.Model)) != "/cache" {
			t.Errorf("%q is kept in %s", s, c.repo(ref.Model))
		}
		checkInside(t, ref.Revision)
		if again, err := ParseRef(ref.String()); err != nil || again != ref {
			t.Errorf("%q: %+v reads again as %+v, %v", s, ref, again, err)
		}
	})
}

func checkInside(t *testing.T, name string) {
	t.Helper()
	if path := filepath.Join("/models", filepath.FromSlash(name)); !strings.HasPrefix(path, "/models/") || strings.ContainsAny(name, "\\\x00") {
		t.Errorf("%q leads to %s", name, path)
	}
}
