package weights

import (
	"fmt"
)

// A tensorFile holds the contents of one safetensors file.
type tensorFile struct {
	name    string
	tensors []Tensor
}

// An entry is a tensor with its canonical name. For errors, it keeps the file
// and the name in that file (raw).
type entry struct {
	Tensor
	file, raw string
	packed    *packedMatrix // of small weights, whose numbers Tensor holds
}

func (e entry) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: tensor %q: %w", e.file, e.raw, fmt.Errorf(format, args...))
}

// mapFile maps and parses a safetensors file. The mapping lasts until m is closed.
func (m *Model) mapFile(path string) (*tensorFile, error) {
	mem, err := mapPath(path)
	if err != nil {
		return nil, explainWeights(path, err)
	}
	m.owned, m.files = append(m.owned, mem), append(m.files, mem)
	tensors, err := parseSafetensors(mem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &tensorFile{name: path, tensors: tensors}, nil
}

// index returns the tensors of all files by canonical name.
func index(files []*tensorFile, arch *architecture) (map[string]entry, error) {
	found := map[string]entry{}
	for _, f := range files {
		for _, t := range f.tensors {
			e := entry{Tensor: t, file: f.name, raw: t.Name}
			e.Name = arch.canonical(t.Name)
			if twin, ok := found[e.Name]; ok {
				return nil, e.errorf("it is the same tensor as %q of %s", twin.raw, twin.file)
			}
			found[e.Name] = e
		}
	}
	return found, nil
}

// lacks returns the names that no tensor of f has.
func (f *tensorFile) lacks(names []string) []string {
	has := make(map[string]bool, len(f.tensors))
	for _, t := range f.tensors {
		has[t.Name] = true
	}
	var lacking []string
	for _, name := range names {
		if !has[name] {
			lacking = append(lacking, name)
		}
	}
	return lacking
}
