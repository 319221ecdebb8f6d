package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
)

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	return data, nil
}

// A field is a member of an object. Its value is JSON.
type field struct {
	name  string
	value []byte
}

func object(fields ...field) []byte {
	var b bytes.Buffer
	for i, f := range fields {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&b, "%q:", f.name)
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// event makes a server-sent event. data is one line, as encode returns it.
func event(name string, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}
