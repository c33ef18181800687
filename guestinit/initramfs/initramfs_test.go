package initramfs

import (
	"bytes"
	"strings"
	"testing"
)

func TestBase(t *testing.T) {
	for _, arch := range Arches {
		b, err := Base(arch)
		if err != nil {
			if !strings.Contains(err.Error(), "make build") {
				t.Errorf("%s: the error does not say what to do: %v", arch, err)
			}
			if b != nil {
				t.Errorf("%s: %d bytes with an error", arch, len(b))
			}
			continue
		}
		if !bytes.HasPrefix(b, []byte("070701")) || len(b)%4 != 0 {
			t.Errorf("%s: %d bytes that are no cpio archive", arch, len(b))
		}
		init, err := Init(arch)
		if err != nil || !bytes.HasPrefix(init, []byte("\x7fELF")) {
			t.Errorf("%s: PID 1 of %d bytes is no program (error %v)", arch, len(init), err)
		}
	}
	if _, err := Base("mips"); err == nil || !strings.Contains(err.Error(), "amd64") {
		t.Errorf("no architecture: %v", err)
	}
}
