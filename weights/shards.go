package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

const (
	indexFile = "model.safetensors.index.json"
	maxIndex  = 16 << 20 // bytes
	maxShards = 1 << 10
)

// mapWeights maps the files of the model's weights: model.safetensors, or else
// the shards that its index lists. For errors, it also returns the path of the
// file or of the index.
func (m *Model) mapWeights() ([]*tensorFile, string, error) {
	path := filepath.Join(m.Dir, weightsFile)
	file, err := m.mapFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return []*tensorFile{file}, path, err
	}
	indexPath := filepath.Join(m.Dir, indexFile)
	data, indexErr := readSmall(indexPath, maxIndex)
	if errors.Is(indexErr, fs.ErrNotExist) {
		return nil, path, err
	}
	if indexErr != nil {
		return nil, indexPath, indexErr
	}
	places, err := parseIndex(data)
	if err != nil {
		return nil, indexPath, fmt.Errorf("%s: %w", indexPath, err)
	}
	files, err := m.mapShards(places)
	return files, indexPath, err
}

// mapShards maps the shards and checks that each contains the tensors that the
// index lists for it.
func (m *Model) mapShards(places map[string]string) ([]*tensorFile, error) {
	want := map[string][]string{} // tensors by shard
	for _, tensor := range sortedKeys(places) {
		want[places[tensor]] = append(want[places[tensor]], tensor)
	}
	if len(want) > maxShards {
		return nil, fmt.Errorf("%s lists %d files, expected at most %d", indexFile, len(want), maxShards)
	}
	var files []*tensorFile
	for _, shard := range sortedKeys(want) {
		file, err := m.mapFile(filepath.Join(m.Dir, shard))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, absent(fmt.Sprintf("%s is missing; %s lists it for %s", filepath.Join(m.Dir, shard), indexFile, few(want[shard])))
		}
		if err != nil {
			return nil, err
		}
		if lacking := file.lacks(want[shard]); len(lacking) > 0 {
			return nil, fmt.Errorf("%s lacks tensors that %s lists for it: %s", file.name, indexFile, few(lacking))
		}
		files = append(files, file)
	}
	return files, nil
}

// parseIndex returns the shard of each tensor of an index. A shard is a file
// beside the index.
func parseIndex(data []byte) (map[string]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, jsonError(err)
	}
	if len(index.WeightMap) == 0 {
		return nil, errors.New(`field "weight_map" is missing or empty`)
	}
	for tensor, shard := range index.WeightMap {
		if shard != filepath.Base(shard) || strings.ContainsAny(shard, `/\`) || !strings.HasSuffix(shard, ".safetensors") {
			return nil, fmt.Errorf("tensor %.80q: file %.80q, expected the name of a .safetensors file without a path", tensor, shard)
		}
	}
	return index.WeightMap, nil
}
