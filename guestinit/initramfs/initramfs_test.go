package initramfs

import (
	"bytes"
	"strings"
	"testing"
)

func TestBase(t *testing.T) {
	b, err := Base()
	if err != nil {
		if !strings.Contains(err.Error(), "make build") || b != nil {
			t.Errorf("%d bytes, and the error does not say what to do: %v", len(b), err)
		}
		return
	}
	if !bytes.HasPrefix(b, []byte("070701")) || len(b)%4 != 0 {
		t.Errorf("%d bytes that are no cpio archive", len(b))
	}
	init, err := Init()
	if err != nil || !bytes.HasPrefix(init, []byte("\x7fELF")) {
		t.Errorf("PID 1 of %d bytes is no program (error %v)", len(init), err)
	}
}
