package system

import (
	"fmt"

	"howett.net/plist"
)

// deviceUtilization reads what `ioreg -a -c IOAccelerator` prints: the registry
// entries of the GPUs as a property list. It returns the figure of the busiest
// GPU, nil if no GPU has one.
func deviceUtilization(dump []byte) (*float64, error) {
	if len(dump) == 0 { // ioreg prints nothing where there is no such entry
		return nil, nil
	}
	var entries []struct {
		Statistics map[string]any `plist:"PerformanceStatistics"`
	}
	if _, err := plist.Unmarshal(dump, &entries); err != nil {
		return nil, fmt.Errorf("system: ioreg's property list: %w", err)
	}
	var busiest *float64
	for _, entry := range entries {
		pct, ok := number(entry.Statistics["Device Utilization %"])
		if ok && (busiest == nil || pct > *busiest) {
			busiest = &pct
		}
	}
	return busiest, nil
}

// number converts an integer or a real of a property list.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case uint64:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}
