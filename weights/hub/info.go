package hub

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

const (
	maxInfo   = 16 << 20 // bytes of the hub's description of a model
	maxIndex  = 16 << 20 // bytes of an index of shards
	maxSmall  = 64 << 20 // bytes of a file that is not weights
	maxShards = 1 << 10
)

// info is the hub's description of a model at a revision.
type info struct {
	commit string
	files  tree // without names that are not paths below the repository
}

// parseInfo parses the response of /api/models/ORG/NAME/revision/REVISION.
func parseInfo(data []byte) (info, error) {
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   int64  `json:"size"`
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return info{}, fmt.Errorf("cannot parse the hub's description of the model: %w", err)
	}
	if !commitPattern.MatchString(answer.SHA) {
		return info{}, errors.New("the hub's description of the model has no commit")
	}
	in := info{commit: answer.SHA, files: tree{}}
	for _, s := range answer.Siblings {
		if !validName(s.Name) {
			continue
		}
		entry := treeEntry{Size: s.Size, BlobID: s.BlobID}
		if s.LFS != nil {
			entry.SHA256, entry.LFSSize = s.LFS.SHA256, s.LFS.Size
		}
		in.files[s.Name] = entry
	}
	return in, nil
}

// validName reports whether name stays below the directory that it is joined to.
func validName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00") && len(name) < 1<<10
}

// choose returns the files of a model except its weights, and the file of the
// weights or their index. The error describes why the repository is unusable.
func (in info) choose() (small []string, weights string, err error) {
	has := func(name string) bool { _, ok := in.files[name]; return ok }
	switch {
	case !has(configFile) && has("adapter_config.json"):
		return nil, "", errors.New("the repository is a PEFT adapter, not a model: download its files into a directory, " +
			"and give it as the adapter (--adapter DIR) of the model that it was trained on")
	case !has(configFile):
		return nil, "", fmt.Errorf("the repository has no %s: it is not a model of transformers", configFile)
	case !has(tokenizerFile):
		return nil, "", fmt.Errorf("the repository has no %s: in Python, AutoTokenizer.from_pretrained(...).save_pretrained(DIR) "+
			"writes one; then use --model DIR", tokenizerFile)
	case has(weightsFile):
		weights = weightsFile
	case has(indexFile):
		weights = indexFile
	default:
		found := slices.DeleteFunc(slices.Sorted(maps.Keys(in.files)), func(name string) bool {
			return !slices.Contains([]string{"pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"}, name)
		})
		return nil, "", fmt.Errorf("the repository has no %s (found %s): convert it in Python with "+
			"save_pretrained(DIR, safe_serialization=True) and use --model DIR", weightsFile, cmp.Or(strings.Join(found, ", "), "no weights"))
	}
	small = []string{configFile, tokenizerFile}
	for _, name := range optionalFiles {
		if has(name) {
			small = append(small, name)
		}
	}
	return small, weights, nil
}

// parseIndex returns the names of the shards in an index of weights. They are in
// the same folder.
func parseIndex(data []byte) ([]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var names []string
	seen := map[string]bool{}
	for _, name := range index.WeightMap {
		if seen[name] {
			continue
		}
		seen[name] = true
		if !validName(name) || strings.Contains(name, "/") || !strings.HasSuffix(name, ".safetensors") {
			return nil, fmt.Errorf("%s: weight_map lists %q, expected .safetensors files in the same folder", indexFile, name)
		}
		names = append(names, name)
	}
	if len(names) == 0 || len(names) > maxShards {
		return nil, fmt.Errorf("%s: weight_map lists %d files, expected 1 to %d", indexFile, len(names), maxShards)
	}
	slices.Sort(names)
	return names, nil
}
