package system

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/proto"
)

func TestDataMounts(t *testing.T) {
	table := `rootfs / rootfs rw 0 0
proc /proc proc rw 0 0
share0 /mnt/a\040b virtiofs rw,relatime 0 0
/dev/vda /mnt/disk ext4 rw 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw 0 0
overlay /mnt/disk/x overlay rw 0 0
broken
`
	want := []string{"/mnt/disk/x", "/mnt/disk", "/mnt/a b"}
	if diff := cmp.Diff(want, dataMounts(table)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func event(typ, code uint16, value uint32) []byte {
	b := make([]byte, inputEventSize)
	binary.NativeEndian.PutUint16(b[16:], typ)
	binary.NativeEndian.PutUint16(b[18:], code)
	binary.NativeEndian.PutUint32(b[20:], value)
	return b
}

func TestWaitKey(t *testing.T) {
	others := bytes.Join([][]byte{
		event(0, 0, 0),        // SYN_REPORT
		event(evKey, 30, 1),   // another key
		event(evKey, 116, 0),  // the power key goes up
		event(4, keyPower, 1), // MSC
	}, nil)
	if err := waitKey(bytes.NewReader(others)); !errors.Is(err, io.EOF) {
		t.Errorf("without the key: %v", err)
	}
	if err := waitKey(bytes.NewReader(append(others, event(evKey, keyPower, 1)...))); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestIsPL061(t *testing.T) {
	for label, want := range map[string]bool{
		"9030000.pl061": true, "9030000.gpio": true, "ARMH0061:00": true, "gpio-mockup-A": false, "": false,
	} {
		if got := isPL061(label); got != want {
			t.Errorf("%q: %v", label, got)
		}
	}
}

func TestInfo(t *testing.T) {
	info, err := Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.MemoryTotal == 0 || info.MemoryAvailable == 0 || info.MemoryAvailable > info.MemoryTotal || info.Uptime <= 0 || info.Processes == 0 {
		t.Errorf("%+v", info)
	}
}

func TestField(t *testing.T) {
	table := []byte("MemTotal:       12 kB\noom_kill_x 3\noom_kill 5\nempty\n")
	if got := field(table, "oom_kill"); got != 5 {
		t.Errorf("oom_kill %d", got)
	}
	if got := kibibytes(table, "MemTotal:"); got != 12<<10 {
		t.Errorf("MemTotal %d", got)
	}
	if got := field(table, "none"); got != 0 {
		t.Errorf("none %d", got)
	}
}

func TestMountRefuses(t *testing.T) {
	if err := Mount(proto.Mount{Type: "tmpfs", Source: "x", Target: "relative"}); err == nil {
		t.Error("a relative target was taken")
	}
}

func TestLoadModulesGoesOn(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.ko")
	if err := os.WriteFile(garbage, []byte("not a module"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := LoadModules([]string{filepath.Join(dir, "missing.ko"), garbage})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"missing.ko", "garbage.ko"} {
		if !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func TestPressure(t *testing.T) {
	for in, want := range map[string]struct {
		avg10 float64
		total time.Duration
	}{
		"some avg10=1.53 avg60=0.87 avg300=0.10 total=123\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=7\n": {1.53, 123 * time.Microsecond},
		"": {}, "some avg10=x total=x": {}, "some total=9999999999999999999": {},
	} {
		if avg10, total := some([]byte(in)); avg10 != want.avg10 || total < 0 || want.total > 0 && total != want.total {
			t.Errorf("%q: %v, %v", in, avg10, total)
		}
	}
}
