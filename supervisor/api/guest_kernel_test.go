package api

import (
	"bytes"
	"debug/elf"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"warder/secmon/introspect"
)

// kernelFromMemory reads symbols and types out of the guest, and compares them
// with the file's.
func (g *guest) kernelFromMemory() {
	file, err := introspect.Open(g.hosted.Kernel)
	if err != nil {
		g.t.Fatal(err)
	}
	start := time.Now()
	k, err := introspect.FromGuest(g.t.Context(), g.hosted.target, runtime.GOARCH)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Logf("%d symbols and the types read out of memory in %v", k.Symbols().Len(), time.Since(start))
	if k.Symbols().Len() != file.Symbols().Len() || k.Banner() != file.Banner() {
		g.t.Errorf("%d symbols of %q in memory, %d of %q in the file", k.Symbols().Len(), k.Banner(), file.Symbols().Len(), file.Banner())
	}
	l, err := introspect.Attach(g.t.Context(), g.hosted.target, k)
	if err != nil {
		g.t.Fatal(err)
	}
	own, err := g.hosted.live(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, name := range []string{"_text", "init_task", "linux_banner", "tcp_hashinfo"} {
		a, err1 := l.Addr(name)
		b, err2 := own.Addr(name)
		if a != b || err1 != nil || err2 != nil {
			g.t.Errorf("%s is at %#x by memory (%v), at %#x by the file (%v)", name, a, err1, b, err2)
		}
	}
	if all, err := l.Processes(g.t.Context()); err != nil || len(all) < 5 {
		g.t.Errorf("%d processes, %v", len(all), err)
	}
}

// core writes a core file, and finds the kernel's banner in it by its address.
func (g *guest) core() {
	ctx := g.t.Context()
	f, err := os.Create(filepath.Join(g.t.TempDir(), "core"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	if _, err := g.Copy(ctx, "/dump", url.Values{"pause": {"1"}}, f); err != nil {
		g.t.Fatal(err)
	}
	core, err := elf.NewFile(f)
	if err != nil {
		g.t.Fatal(err)
	}
	l, err := g.hosted.live(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	banner, err := l.Addr("linux_banner")
	if err != nil {
		g.t.Fatal(err)
	}
	found := 0
	for _, p := range core.Progs {
		switch {
		case p.Type == elf.PT_NOTE:
			notes := make([]byte, p.Filesz)
			if _, err := p.ReadAt(notes, 0); err != nil {
				g.t.Fatal(err)
			}
			if !bytes.Contains(notes, []byte("VMCOREINFO\x00\x00OSRELEASE=")) {
				g.t.Error("the notes have no VMCOREINFO")
			}
			if n := bytes.Count(notes, []byte("CORE\x00")); n != g.CPUs {
				g.t.Errorf("registers of %d vCPUs, want %d", n, g.CPUs)
			}
		case banner >= p.Vaddr && banner-p.Vaddr < p.Filesz:
			text := make([]byte, len(l.Banner()))
			if _, err := p.ReadAt(text, int64(banner-p.Vaddr)); err != nil || string(text) != l.Banner() {
				g.t.Errorf("at the banner's address: %q, %v", text, err)
			}
			found++
		}
	}
	if found != 1 {
		g.t.Errorf("%d segments have the banner's address", found)
	}
	g.cat("true") // it goes on
}
