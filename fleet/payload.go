package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/mlxrank/mlxrank/engine"
)

// maxPayload caps the bytes that an object unpacks to.
const maxPayload = 256 << 20

// pairsObject is the object with the pairs of a part. The pairs of a chunk are scored by
// one call: on some devices the last bits of a score depend on the other pairs of its
// batch.
type pairsObject struct {
	Chunks [][][2]string `json:"chunks"`
}

// encodePairs returns the object of a part's chunks.
func encodePairs(chunks [][]engine.Pair) ([]byte, error) {
	object := pairsObject{Chunks: make([][][2]string, len(chunks))}
	for i, chunk := range chunks {
		object.Chunks[i] = make([][2]string, len(chunk))
		for k, pair := range chunk {
			object.Chunks[i][k] = [2]string{pair.Query, pair.Document}
		}
	}
	return pack(object)
}

// decodePairs reads the object of a part, which must have the part's hash and number of
// pairs.
func decodePairs(data []byte, part Part) ([][]engine.Pair, error) {
	if found := hashOf(data); found != part.SHA256 {
		return nil, fmt.Errorf("the pairs of part %d have SHA-256 %s, expected %s", part.Index, found, part.SHA256)
	}
	var object pairsObject
	if err := unpack(data, &object); err != nil {
		return nil, fmt.Errorf("the pairs of part %d: %w", part.Index, err)
	}
	chunks, pairs := make([][]engine.Pair, len(object.Chunks)), 0
	for i, chunk := range object.Chunks {
		chunks[i] = make([]engine.Pair, len(chunk))
		for k, pair := range chunk {
			chunks[i][k] = engine.Pair{Query: pair[0], Document: pair[1]}
		}
		pairs += len(chunk)
	}
	if pairs != part.Pairs {
		return nil, fmt.Errorf("part %d has %d pairs, expected %d", part.Index, pairs, part.Pairs)
	}
	return chunks, nil
}

// resultObject is the object with the scores of a part, in the order of its pairs.
type resultObject struct {
	Scores []float32      `json:"scores"`
	Logits []float32      `json:"logits"`
	Errors map[int]string `json:"errors,omitempty"` // by index, of pairs that have no score
}

// errNotFinite reports a score that is no number. A worker never commits one.
var errNotFinite = errors.New("a score is not finite")

// checkScores rejects scores that are not finite.
func checkScores(scores []Score) error {
	for i, s := range scores {
		for _, v := range []float32{s.Score, s.Logit} {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("pair %d: %w: score %v, logit %v", i, errNotFinite, s.Score, s.Logit)
			}
		}
	}
	return nil
}

// encodeScores returns the object of a part's scores.
func encodeScores(scores []Score) ([]byte, error) {
	if err := checkScores(scores); err != nil {
		return nil, err
	}
	object := resultObject{Scores: make([]float32, len(scores)), Logits: make([]float32, len(scores)), Errors: map[int]string{}}
	for i, s := range scores {
		object.Scores[i], object.Logits[i] = s.Score, s.Logit
		if s.Err != "" {
			object.Errors[i] = s.Err
		}
	}
	return pack(object)
}

// decodeScores reads the object of a committed part, which must have the commit's hash
// and a score for each pair.
func decodeScores(data []byte, commit Commit, pairs int) ([]Score, error) {
	if found := hashOf(data); found != commit.SHA256 {
		return nil, fmt.Errorf("the result has SHA-256 %s, expected %s", found, commit.SHA256)
	}
	var object resultObject
	if err := unpack(data, &object); err != nil {
		return nil, err
	}
	if len(object.Scores) != pairs || len(object.Logits) != pairs {
		return nil, fmt.Errorf("the result has %d scores and %d logits, expected %d", len(object.Scores), len(object.Logits), pairs)
	}
	scores := make([]Score, pairs)
	for i := range scores {
		scores[i] = Score{Score: object.Scores[i], Logit: object.Logits[i], Err: object.Errors[i]}
	}
	return scores, checkScores(scores)
}

// pack returns v as compressed JSON.
func pack(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(data, nil), encoder.Close()
}

// unpack reads what pack returned.
func unpack(data []byte, v any) error {
	decoder, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		return err
	}
	defer decoder.Close()
	text, err := io.ReadAll(io.LimitReader(decoder, maxPayload+1))
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if len(text) > maxPayload {
		return fmt.Errorf("unpack: the object has more than %d bytes", maxPayload)
	}
	return json.Unmarshal(text, v)
}

func hashOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
