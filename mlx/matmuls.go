package mlx

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrDType reports a graph that computes in another number format than it was asked to.
var ErrDType = errors.New("mlx: the graph computes in another dtype than was asked for")

// Part names a part of a graph.
type Part string

// Parts of a graph with matmuls: linear layers of the encoder, its attention, and the
// head with pooling.
const (
	InEncoder   Part = "encoder"
	InAttention Part = "attention"
	InHead      Part = "head"
)

// MatmulCount counts matmuls of a pass that have operands of the same types.
type MatmulCount struct {
	Part     Part
	Left     DType // of activations or queries
	Right    DType // of weights, keys or values
	Computed DType // in which the operands are multiplied
	Bits     int   // of a packed weight, else 0
	Count    int64
}

// Types of operands that are no DType of a model.
const (
	int16Operand  DType = "int16" // of attention with Int8
	packedWeights DType = "packed"
	otherOperand  DType = "another type"
)

// String returns the operands' types, as in "float32 x float32".
func (m MatmulCount) String() string {
	right := string(m.Right)
	if m.Bits > 0 {
		right = fmt.Sprintf("%d-bit weights", m.Bits)
	}
	text := fmt.Sprintf("%s x %s", m.Left, right)
	if m.Computed != m.Left || m.Bits == 0 && m.Computed != m.Right {
		text += " in " + string(m.Computed)
	}
	return text
}

// label returns the number format that the matmuls of one kind have, false if operands
// of several types meet.
func (m MatmulCount) label() (DType, bool) {
	if m.Bits > 0 {
		return DType(fmt.Sprintf("int%dw", m.Bits)), m.Right == packedWeights && m.Computed == m.Left && m.Left != Int8
	}
	same := m.Right == m.Left && m.Computed == m.Left
	return m.Left, same
}

// checkLabel returns an error unless a graph with these matmuls computes in the dtype:
// each linear layer of the encoder does, attention does or is wider, and the head is in
// float32.
func checkLabel(dtype DType, graph []MatmulCount) error {
	var encoder int64
	for _, m := range graph {
		label, pure := m.label()
		ok := pure && label == Float32
		switch m.Part {
		case InEncoder:
			ok = pure && label == dtype
			encoder += m.Count
		case InAttention:
			ok = ok || pure && (label == dtype || label == Float16 && isPacked(dtype) || label == int16Operand && dtype == Int8)
		}
		if !ok {
			return fmt.Errorf("%w: %s was asked for, and %d matmuls of the %s are %s (all: %s)", ErrDType, dtype, m.Count, m.Part, m, describe(graph))
		}
	}
	if encoder == 0 {
		return fmt.Errorf("%w: %s was asked for, and no matmul of an encoder was found (all: %s)", ErrDType, dtype, describe(graph))
	}
	return nil
}

// isPacked reports whether a dtype names packed weights, which other matmuls do without.
func isPacked(dtype DType) bool { return dtype == Int8W || dtype == Int4W }

// describe lists the matmuls, as in "24 float32 x float32 (encoder)".
func describe(graph []MatmulCount) string {
	var parts []string
	for _, m := range graph {
		parts = append(parts, fmt.Sprintf("%d %s (%s)", m.Count, m, m.Part))
	}
	return strings.Join(parts, ", ")
}

// Matmuls returns the matmuls of a pass over one short pair, counted by the types that
// their operands had in the session's graph when it was opened.
func (s *Session) Matmuls() []MatmulCount { return slices.Clone(s.graph) }

// countMatmuls counts the matmuls of the session's graph.
func (s *Session) countMatmuls() ([]MatmulCount, error) {
	c := cMatmuls{size: sizeOf[cMatmuls]()}
	err := callHere("session_matmuls", func(err *byte, errLen int32) int32 {
		return s.library.native.matmuls(s.handle.Load(), &c, err, errLen)
	})
	if err != nil {
		return nil, err
	}
	var graph []MatmulCount
	for _, k := range c.kinds[:c.count] {
		graph = append(graph, MatmulCount{
			Part: [...]Part{InEncoder, InAttention, InHead}[k.part],
			Left: operand(k.left), Right: operand(k.right), Computed: operand(k.computed),
			Bits: int(k.bits), Count: k.count,
		})
	}
	return graph, nil
}

// operand returns the type with a code of mlxrank.h.
func operand(code int32) DType {
	types := []DType{Float32, Float16, BFloat16, Int8, packedWeights, int16Operand}
	if code < 0 || int(code) >= len(types) {
		return otherOperand
	}
	return types[code]
}

// check compares the session's graph with the dtype that it was opened in.
func (s *Session) check() (err error) {
	if s.graph, err = s.countMatmuls(); err != nil {
		return err
	}
	return checkLabel(s.dtype, s.graph)
}
