package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	modulesFile        = "modules.json"
	sentenceConfigFile = "config_sentence_transformers.json"
)

// moduleFiles returns the files in folders that a CrossEncoder of several modules
// needs, by the contents of modules.json and config_sentence_transformers.json. A
// model of sentence-transformers of another kind needs none: only its encoder is
// used. Package weights explains a file that cannot be parsed.
func moduleFiles(modules, config []byte) []string {
	var model struct {
		Type string `json:"model_type"`
	}
	var entries []struct {
		Path string `json:"path"`
		Type string `json:"type"`
	}
	if json.Unmarshal(config, &model) != nil || model.Type != "CrossEncoder" || json.Unmarshal(modules, &entries) != nil {
		return nil
	}
	var files []string
	for _, e := range entries {
		if e.Path == "." || !validName(e.Path) {
			continue
		}
		switch e.Type[strings.LastIndexByte(e.Type, '.')+1:] {
		case "Dense", "LayerNorm":
			files = append(files, path.Join(e.Path, configFile), path.Join(e.Path, weightsFile))
		case "Pooling":
			files = append(files, path.Join(e.Path, configFile))
		}
	}
	return files
}

// missingModuleFile returns the first file of a module that a model directory lacks.
func missingModuleFile(dir string, lacks func(name string) bool) string {
	modules, err := readBounded(filepath.Join(dir, modulesFile), maxSmall)
	if err != nil {
		return ""
	}
	config, err := readBounded(filepath.Join(dir, sentenceConfigFile), maxSmall)
	if err != nil {
		return ""
	}
	for _, name := range moduleFiles(modules, config) {
		if lacks(name) {
			return name
		}
	}
	return ""
}

// modules downloads the files of the model's modules. small holds the files of its
// own folder.
func (p *pull) modules(ctx context.Context, small []*blob) ([]*blob, error) {
	contents := map[string][]byte{}
	for _, b := range small {
		if b.name != modulesFile && b.name != sentenceConfigFile {
			continue
		}
		data, err := readBounded(b.content(), maxSmall)
		if err != nil {
			return nil, err
		}
		contents[b.name] = data
	}
	names := moduleFiles(contents[modulesFile], contents[sentenceConfigFile])
	if len(names) == 0 {
		return nil, nil
	}
	for _, name := range names {
		if _, ok := p.listed[name]; !ok {
			return nil, fmt.Errorf("the repository has no %s, which %s needs", name, modulesFile)
		}
	}
	blobs, err := p.prepare(ctx, names)
	if err != nil {
		return nil, err
	}
	return blobs, p.download(ctx, blobs)
}

// escapePath escapes the parts of a path between slashes.
func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// makeFolder creates the folder of a file of the snapshot.
func (b *blob) makeFolder() error { return os.MkdirAll(filepath.Dir(b.placed), 0o777) }
