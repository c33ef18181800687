package analysis

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// TestHowto compiles the device that docs/device-howto.md shows, as if it stood
// below devices/virtio, and runs its tests.
func TestHowto(t *testing.T) {
	blocks := goBlock.FindAllStringSubmatch(read(repository(t), "docs/device-howto.md"), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of Go code, want the device and its tests", len(blocks))
	}
	module, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, name := range []string{"checksum.go", "checksum_test.go"} {
		real := filepath.Join(dir, name)
		if err := os.WriteFile(real, []byte(blocks[i][1]), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(module, "devices/virtio/checksum", name)] = real
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "checksum.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlayFile, "-c", "-o", binary, "./devices/virtio/checksum")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary)
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	gofmt := exec.CommandContext(t.Context(), "gofmt", "-l", dir)
	if out, err := gofmt.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt would change the code: %v\n%s", err, out)
	}
}
