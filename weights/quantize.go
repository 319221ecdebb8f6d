package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// A packedMatrix is a matrix of small weights. A row has cols * Bits / 8 bytes of
// numbers, the first in the lowest bits, and cols / GroupSize scales and biases. A
// weight is scale * number + bias.
type packedMatrix struct {
	Quantization
	rows, cols     int
	numbers        []byte
	scales, biases Tensor
}

// rowBytes returns the bytes of a row's numbers.
func (p *packedMatrix) rowBytes() int { return p.cols * p.Bits / 8 }

// groups returns the scales of a row.
func (p *packedMatrix) groups() int { return p.cols / p.GroupSize }

// forRows calls f for blocks of rows, on all processors.
func forRows(rows int, f func(first, last int) error) error {
	const block = 64
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < rows; first += block {
		group.Go(func() error { return f(first, min(rows, first+block)) })
	}
	return group.Wait()
}

// dequantize writes the weights to out, which has room for all of them.
func (p *packedMatrix) dequantize(out []float32) error {
	scales, biases := floats(p.scales), floats(p.biases)
	return forRows(p.rows, func(first, last int) error {
		for row := first; row < last; row++ {
			at := row * p.groups()
			p.dequantizeRow(p.numbers[row*p.rowBytes():][:p.rowBytes()], scales[at:], biases[at:], out[row*p.cols:][:p.cols])
		}
		return nil
	})
}

func (p *packedMatrix) dequantizeRow(numbers []byte, scales, biases, out []float32) {
	for group := range p.groups() {
		scale, bias := scales[group], biases[group]
		to := out[group*p.GroupSize:][:p.GroupSize]
		from := numbers[group*p.GroupSize*p.Bits/8:]
		// The conversions keep the compiler from fusing the sum, which rounds otherwise.
		if p.Bits == 8 {
			for i, q := range from[:len(to)] {
				to[i] = float32(scale*float32(q)) + bias
			}
			continue
		}
		for i, q := range from[:len(to)/2] {
			to[2*i] = float32(scale*float32(q&15)) + bias
			to[2*i+1] = float32(scale*float32(q>>4)) + bias
		}
	}
}

// quantize makes the numbers, scales and biases of the weights. The scales and biases
// are F16, and have room in p.
func (p *packedMatrix) quantize(weights Tensor) error {
	size := len(weights.Data) / p.rows
	return forRows(p.rows, func(first, last int) error {
		for row := first; row < last; row++ {
			values := floats(Tensor{DType: weights.DType, Data: weights.Data[row*size : (row+1)*size]})
			numbers := p.numbers[row*p.rowBytes():][:p.rowBytes()]
			for g := range p.groups() {
				at := 2 * (row*p.groups() + g)
				scale, bias := p.quantizeGroup(values[g*p.GroupSize:][:p.GroupSize], numbers[g*p.GroupSize*p.Bits/8:])
				if math.IsInf(float64(fromF16(scale)), 0) || math.IsInf(float64(fromF16(bias)), 0) {
					return fmt.Errorf("row %d has values beyond the range of float16, %v", row, maxF16)
				}
				binary.LittleEndian.PutUint16(p.scales.Data[at:], scale)
				binary.LittleEndian.PutUint16(p.biases.Data[at:], bias)
			}
		}
		return nil
	})
}

// leastScale is the smallest scale that float16 holds without a loss of precision.
const leastScale = 1.0 / (1 << 14)

// quantizeGroup quantizes the weights of a group to numbers. It returns the scale and
// the bias in float16. The numbers are chosen for these, not for unrounded ones.
func (p *packedMatrix) quantizeGroup(weights []float32, numbers []byte) (scale16, bias16 uint16) {
	most := float32(int(1)<<p.Bits - 1)
	scale, bias := affine(weights, most)
	if p.Bits == 4 && scale*scale > leastScale*leastScale {
		scale, bias = refine(weights, most, scale, bias)
	}
	scale16, bias16 = toF16(scale), toF16(bias)
	scale, bias = fromF16(scale16), fromF16(bias16)
	inverse := 1 / scale
	clear(numbers[:p.GroupSize*p.Bits/8])
	for i, w := range weights {
		if q := byte(number(w, inverse, bias, most)); p.Bits == 8 {
			numbers[i] = q
		} else {
			numbers[i/2] |= q << (4 * (i % 2))
		}
	}
	return scale16, bias16
}

// affine returns the scale and the bias for numbers from 0 to most, by MLX's rule: the
// weight of the largest magnitude is exact, and so is zero.
func affine(weights []float32, most float32) (scale, bias float32) {
	low, high := weights[0], weights[0]
	for _, w := range weights {
		if w < low {
			low = w
		}
		if w > high {
			high = w
		}
	}
	const least = 1e-7
	scale = max((high-low)/most, least)
	edge := low
	if -low <= high {
		scale, edge = -scale, high
	}
	if q := nearest(edge / scale); q != 0 {
		return edge / q, edge
	}
	return scale, 0
}

// number returns the number of a weight, from 0 to most.
func number(w, inverse, bias, most float32) float32 {
	x := nearest(float32((w - bias) * inverse))
	if x < 0 {
		return 0
	}
	if x > most {
		return most
	}
	return x
}

// refine returns the scale and the bias with the smallest square error that it finds.
// With few bits it pays to cut the largest weights, so that steps are smaller. For each
// of several ranges the numbers are chosen, and then the line that fits them best.
func refine(weights []float32, most, scale, bias float32) (bestScale, bestBias float32) {
	bestScale, bestBias = scale, bias
	best := squareError(weights, most, scale, bias)
	low, high := bias, bias+scale*most
	if low > high {
		low, high = high, low
	}
	for _, share := range []float32{1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7} {
		scale, bias := (high-low)*share/most, low*share
		for range 2 {
			scale, bias = fit(weights, most, scale, bias)
			if scale == 0 {
				break
			}
			if e := squareError(weights, most, scale, bias); e < best {
				best, bestScale, bestBias = e, scale, bias
			}
		}
	}
	return bestScale, bestBias
}

// squareError returns the square error of weights in float32.
func squareError(weights []float32, most, scale, bias float32) float32 {
	inverse, sum := 1/scale, float32(0)
	for _, w := range weights {
		d := w - bias - scale*number(w, inverse, bias, most)
		sum += d * d
	}
	return sum
}

// fit returns the scale and the bias that fit the numbers of weights best, zeros if all
// numbers are equal.
func fit(weights []float32, most, scale, bias float32) (newScale, newBias float32) {
	inverse := 1 / scale
	var n, q1, q2, w1, qw float32
	for _, w := range weights {
		q := number(w, inverse, bias, most)
		n, q1, q2, w1, qw = n+1, q1+q, q2+q*q, w1+w, qw+q*w
	}
	d := n*q2 - q1*q1
	if d <= 0 {
		return 0, 0
	}
	newScale = (n*qw - q1*w1) / d
	return newScale, (w1 - newScale*q1) / n
}

// nearest rounds to the nearest integer, a half to the even one.
func nearest(x float32) float32 {
	return float32(math.RoundToEven(float64(x)))
}

// maxF16 is the largest number of float16.
const maxF16 = 65504

// toF16 converts to the nearest IEEE 754 half-precision number, a half to the even one.
func toF16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00 // NaN
	case magnitude >= 0x477ff000:
		return sign | 0x7c00 // more than maxF16, rounded
	case magnitude < 0x38800000: // subnormal: multiples of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*(1<<24)))
	}
	rounded := magnitude + 0xfff + magnitude>>13&1
	return sign | uint16((rounded-0x38000000)>>13)
}
