package fat

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"warder/internal/oracle"
)

// files have names of all kinds, sizes at the borders of sectors and clusters, and a
// directory of several clusters.
func files() fstest.MapFS {
	random := rand.New(rand.NewPCG(1, 2))
	tree := fstest.MapFS{"an empty directory": {Mode: fs.ModeDir | 0o755}}
	for i, name := range []string{
		"vmlinuz", "config.txt", "UPPER.TXT", "warder/host.yaml", "bcm2711-rpi-4-b.dtb", "bcm2711-rpi-400.dtb", "no extension at all",
		".hidden", "two.dots.tar", "exactly 13 ch", "größe.π", "EFI/BOOT/BOOTX64.EFI", "deep/er/and/deeper/still/here",
	} {
		size := []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000}[i%9]
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		tree[name] = &fstest.MapFile{Data: b}
	}
	for i := range 300 {
		tree[fmt.Sprintf("many/a file with a long name, number %d", i)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	return tree
}

// write writes a file system into a file of the size that it has.
func write(t *testing.T, c Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := Write(f, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrite holds file systems of each cluster size against fsck.fat, and what is in
// them against mtools.
func TestWrite(t *testing.T) {
	fsck := oracle.Command(t, "fsck.fat", "dosfstools")
	mcopy := oracle.Command(t, "mcopy", "mtools")
	mlabel := oracle.Command(t, "mlabel", "mtools")
	for _, room := range []int64{0, 40 << 20, 100 << 20, 200 << 20, 300 << 20} {
		tree := files()
		c := Config{Label: "WARDER", Files: tree, Room: room, Time: time.Date(2024, 2, 29, 23, 59, 58, 0, time.UTC), ID: 0x1234abcd}
		image := write(t, c)
		if out, err := exec.CommandContext(t.Context(), fsck, "-n", "-v", image).CombinedOutput(); err != nil {
			t.Errorf("room %d: %v\n%s", room, err, out)
		}
		env := append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8")
		label := exec.CommandContext(t.Context(), mlabel, "-i", image, "-s", "::")
		label.Env = env
		if out, err := label.CombinedOutput(); err != nil || !strings.Contains(string(out), "Volume label is WARDER") {
			t.Errorf("label: %v\n%s", err, out)
		}
		back := t.TempDir()
		read := exec.CommandContext(t.Context(), mcopy, "-i", image, "-s", "-m", "-Q", "::*", back)
		read.Env = env
		if out, err := read.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for name, file := range tree {
			if file.Mode.IsDir() {
				continue
			}
			got, err := os.ReadFile(filepath.Join(back, name))
			if err != nil || !bytes.Equal(got, file.Data) {
				t.Errorf("room %d: %s: %d bytes came back of %d, error %v", room, name, len(got), len(file.Data), err)
			}
		}
	}
}

// TestSame makes the same bytes of the same files.
func TestSame(t *testing.T) {
	var images [2][]byte
	for i := range images {
		b, err := os.ReadFile(write(t, Config{Files: files()}))
		if err != nil {
			t.Fatal(err)
		}
		images[i] = b
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two file systems of the same files differ")
	}
}

func TestShortNames(t *testing.T) {
	taken := make(map[[11]byte]bool)
	for _, c := range []struct{ name, want string }{
		{"vmlinuz", "VMLINUZ    "}, {"config.txt", "CONFIG  TXT"}, {"host.yaml", "HOST~1  YAM"}, {"host.yam", "HOST    YAM"}, {"host.yamm", "HOST~2  YAM"},
		{".hidden", "~1      HID"}, {"bcm2711-rpi-4-b.dtb", "BCM271~1DTB"}, {"bcm2711-rpi-400.dtb", "BCM271~2DTB"}, {"π", "~1         "},
	} {
		short, err := shortName(c.name, taken)
		if err != nil || string(short[:]) != c.want {
			t.Errorf("%s: %q, error %v, want %q", c.name, short, err, c.want)
		}
		taken[short] = true
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"label":    {Label: "LONGER THAN IT MAY BE"},
		"capitals": {Files: fstest.MapFS{"a": {}, "A": {}}},
		"colon":    {Files: fstest.MapFS{"a:b": {}}},
		"pipe":     {Files: fstest.MapFS{"p": {Mode: fs.ModeNamedPipe}}},
		"absent":   {Files: os.DirFS(filepath.Join(t.TempDir(), "absent"))},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := Write(f, c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
