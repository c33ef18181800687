package lab

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot/debian"
)

func TestClosure(t *testing.T) {
	index := map[string]map[string]string{
		"tool":   {"Depends": "liba (>= 1), libb | libc, debconf, virtual"},
		"liba":   {"Depends": "libd:any"},
		"libb":   {"Depends": "liba"}, // a circle
		"libd":   {"Depends": "libb"},
		"single": {},
	}
	show := func(name string) (map[string]string, error) {
		c, ok := index[name]
		if !ok {
			return nil, debian.ErrNotFound
		}
		return c, nil
	}
	got, err := closure([]string{"tool", "single"}, show)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"tool", "single", "liba", "libb", "libd"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, err := closure([]string{"absent"}, show); !errors.Is(err, debian.ErrNotFound) {
		t.Errorf("a package that was asked for and is not there: %v", err)
	}
}
