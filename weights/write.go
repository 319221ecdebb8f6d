package weights

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A source records where the tensors of a model came from, for Write.
type source struct {
	config   modelConfig
	sentence sentenceSettings
	entries  []entry
	slots    []slot
	raw      map[string]string // names in the checkpoint, by canonical name
	stored   Quantization      // of the small weights in the files
}

// tokenizerFiles lists what a directory may have of a tokenizer. Python reads more of
// them than mlxrank.
var tokenizerFiles = []string{
	tokenizerFile, tokenizerConfigFile, "special_tokens_map.json", "added_tokens.json",
	"vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "LICENSE",
}

// Write writes a model with small weights to dir, which must be empty: weights under the
// names of the checkpoint, as Python's MLX reads them, config.json, the tokenizer, and
// the files of sentence-transformers. progress, if not nil, is called with the bytes of
// weights written so far and with all. An adapter of the model is merged in what is written.
// Write refuses a model whose files have small weights already: its losses cannot be
// measured, and another group size would add to them.
func (m *Model) Write(dir string, progress func(done, total int64)) error {
	q := m.Quantization
	if q.Bits == 0 {
		return errors.New("weights: the model has no small weights to write")
	}
	s := m.source
	if s.stored.Bits > 0 {
		return fmt.Errorf("model %q: its files have %s weights with groups of %d already, so there is nothing to quantize; use it as it is, or quantize the original model", m.Ref, s.stored.Format(), s.stored.GroupSize)
	}
	folder := filepath.Join(dir, s.sentence.folder)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := m.writeWeights(filepath.Join(folder, weightsFile), progress); err != nil {
		return err
	}
	from := filepath.Join(m.Dir, s.sentence.folder)
	if err := m.writeConfig(filepath.Join(from, configFile), filepath.Join(folder, configFile)); err != nil {
		return err
	}
	if err := m.writeTokenizer(from, folder); err != nil {
		return err
	}
	if !s.sentence.saved {
		return nil
	}
	return m.writeSentence(dir)
}

// writeTokenizer copies the files of the tokenizer. A maximum length that no file
// has, such as builtin's, becomes that of tokenizer_config.json.
func (m *Model) writeTokenizer(from, to string) error {
	for _, name := range tokenizerFiles {
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if m.Ref != Builtin {
		return nil
	}
	path := filepath.Join(to, tokenizerConfigFile)
	return editJSON(path, path, func(fields map[string]any) { fields["model_max_length"] = m.MaxLength })
}

// writeSentence copies the files of sentence-transformers.
func (m *Model) writeSentence(dir string) error {
	files := append([]string{modulesFile, sentenceConfigFile}, sentenceBertFiles...)
	for _, part := range m.source.sentence.modules[1:] {
		if part.path != "" {
			files = append(files, filepath.Join(part.path, configFile), filepath.Join(part.path, weightsFile))
		}
	}
	for _, folder := range []string{"", m.source.sentence.folder} {
		for _, name := range files {
			from, to := filepath.Join(m.Dir, folder, name), filepath.Join(dir, folder, name)
			err := copyFile(from, to)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if m.source.sentence.folder == "" {
			break
		}
	}
	return nil
}

// copyFile copies a regular file to a new one, whose folder it makes.
func copyFile(from, to string) (err error) {
	in, _, err := openRegular(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// writeFile makes a file and writes it to the disk.
func writeFile(path string, write func(io.Writer) error) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := bufio.NewWriterSize(out, 1<<20)
	if err := write(w); err != nil { // Flush would repeat it
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return out.Sync()
}

// editJSON writes a JSON object to a file after a change.
func editJSON(from, to string, edit func(map[string]any)) error {
	data, err := readSmall(from, maxConfig)
	if err != nil {
		return err
	}
	var fields map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return fmt.Errorf("%s: %w", from, jsonError(err))
	}
	edit(fields)
	if data, err = json.MarshalIndent(fields, "", "  "); err != nil {
		return err
	}
	if from == to {
		if err := os.Remove(to); err != nil {
			return err
		}
	}
	return writeFile(to, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// writeConfig writes config.json with the quantization as mlx-lm does. An encoder that
// got its head from an adapter becomes a classifier.
func (m *Model) writeConfig(from, to string) error {
	c := m.source.config
	return editJSON(from, to, func(fields map[string]any) {
		q := map[string]any{"group_size": m.Quantization.GroupSize, "bits": m.Quantization.Bits}
		fields[quantizationField], fields[quantizationConfig] = q, q
		if m.Adapter == "" {
			return
		}
		fields["architectures"] = []string{c.arch.classifier}
		if names, ok := fields["id2label"].(map[string]any); !ok || len(names) != c.Labels {
			ids, labels := map[string]any{}, map[string]any{}
			for i, name := range m.LabelNames {
				ids[fmt.Sprint(i)], labels[name] = name, i
			}
			fields["id2label"], fields["label2id"] = ids, labels
			delete(fields, "num_labels")
		}
	})
}

// writeWeights writes the tensors of the encoder and of a classifier's head. The modules
// of sentence-transformers keep files of their own.
func (m *Model) writeWeights(path string, progress func(done, total int64)) error {
	var tensors []Tensor
	total := int64(0)
	for i, e := range m.source.entries {
		if m.source.slots[i].zeros {
			continue
		}
		if f := m.source.moduleOf(e.Name); f != nil {
			if e.file != filepath.Join(f.dir, weightsFile) {
				return e.errorf("an adapter that changes %v cannot be merged into a copy", f.module)
			}
			continue
		}
		name := cmp.Or(m.source.raw[e.Name], e.Name)
		for _, t := range e.tensors() {
			if dot := strings.LastIndexByte(t.Name, '.'); t.Name != e.Name {
				name = strings.TrimSuffix(name, name[strings.LastIndexByte(name, '.'):]) + t.Name[dot:]
			}
			t.Name = name
			tensors, total = append(tensors, t), total+int64(len(t.Data))
		}
	}
	// Wide types first, so that all are aligned.
	slices.SortStableFunc(tensors, func(a, b Tensor) int { return cmp.Compare(elementBits[b.DType], elementBits[a.DType]) })
	return writeFile(path, func(w io.Writer) error {
		return writeSafetensors(w, tensors, func(done int64) {
			if progress != nil {
				progress(done, total)
			}
		})
	})
}

// moduleOf returns the module that a tensor belongs to, nil for none.
func (s *source) moduleOf(name string) *moduleFile {
	i := slices.IndexFunc(s.config.stack, func(f moduleFile) bool { return strings.HasPrefix(name, f.path+".") })
	if i < 0 {
		return nil
	}
	return &s.config.stack[i]
}

// writeSafetensors writes a safetensors file. It calls progress with the bytes of data
// written.
func writeSafetensors(w io.Writer, tensors []Tensor, progress func(done int64)) error {
	header := map[string]any{"__metadata__": map[string]string{"format": "mlx"}}
	end := 0
	for _, t := range tensors {
		begin := end
		end += len(t.Data)
		header[t.Name] = map[string]any{"dtype": t.DType, "shape": t.Shape, "data_offsets": []int{begin, end}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	text = append(text, strings.Repeat(" ", -len(text)&7)...)
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return err
	}
	done := int64(0)
	for _, t := range tensors {
		for data := t.Data; len(data) > 0; {
			n, err := w.Write(data[:min(len(data), 8<<20)])
			if err != nil {
				return err
			}
			data, done = data[n:], done+int64(n)
			progress(done)
		}
	}
	return nil
}
