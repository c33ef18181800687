package lab

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// builtVMRUN is the place in Debian's build of QEMU 10.0.2.
const builtVMRUN = "410fb6f4" + "4489abe0330000" +
	"89b310d7ffff" + "c783e433000000000000" + "48c783e8330000ffffffff" + "f6059aa73c0102" + "0f856c010000" +
	"ba01000000" + "4889df" + "e877a60600" + "f60580a73c0102"

func TestMendDoubledVector(t *testing.T) {
	built, err := hex.DecodeString(builtVMRUN)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(built)
	other[23] = 1 // exception_is_int = 1: what the other kinds of injection do
	tests := []struct {
		name string
		code []byte
		want int // offset of the store that goes, -1 for none
	}{
		{"as it is built", built, 11},
		{"somewhere", append(make([]byte, 1000), built...), 1011},
		{"at the end", built[:len(built)-7], 11},
		{"cut off", built[:len(built)-8], -1},
		{"twice", append(bytes.Clone(built), built...), -1},
		{"another injection", other, -1},
		{"nothing", nil, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := bytes.Clone(tt.code)
			if tt.want >= 0 {
				copy(want[tt.want:], sixNothings)
			}
			got := bytes.Clone(tt.code)
			if done := mendDoubledVector(got); done != (tt.want >= 0) {
				t.Errorf("mended: %t", done)
			}
			if diff := cmp.Diff(hex.EncodeToString(want), hex.EncodeToString(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if mendDoubledVector(got) && tt.want >= 0 {
				t.Error("mended a second time")
			}
		})
	}
}

// What is mended is a copy, made once, which finds the firmware of the original.
func TestMendedIsACopy(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	built, err := hex.DecodeString(builtVMRUN)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	installed := QEMU{Path: filepath.Join(root, "bin", "qemu-system-x86_64")}
	if err := os.MkdirAll(filepath.Dir(installed.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(installed.Path, built, 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := installed.mended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := installed.mended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the second time: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(root, "share/seabios"), filepath.Join(root, "share/qemu")}, first.Data); diff != "" {
		t.Errorf("firmware: -want +got\n%s", diff)
	}
	untouched, err := os.ReadFile(installed.Path)
	if err != nil || !bytes.Equal(untouched, built) {
		t.Errorf("the installed one was changed (%v)", err)
	}
	copied, err := os.ReadFile(first.Path)
	if err != nil || bytes.Equal(copied, built) {
		t.Errorf("the copy is as the installed one (%v)", err)
	}
	if st, err := os.Stat(first.Path); err != nil || st.Mode().Perm()&0o111 == 0 {
		t.Errorf("the copy cannot be run: %v, %v", st, err)
	}

	sound := QEMU{Path: first.Path}
	if got, err := sound.mended(t.Context()); err != nil || got.Path != sound.Path {
		t.Errorf("a sound one became %v (%v)", got, err)
	}
}
