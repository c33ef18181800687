package fs

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkLookup(b *testing.B) {
	share, _ := tree(b)
	put(b, filepath.Join(share, "file"), "")
	g := mount(b, Config{Dir: share})
	request := requestBytes(opLookup, rootID, cat("file\x00"))
	head, data := make([]byte, replyHeaderSize), make([]byte, entrySize)
	for b.Loop() {
		n, err := g.s.serve(g.c, &bytesSource{request}, &bytesSink{head[:0]}, &bytesSink{data[:0]})
		if n != replyHeaderSize+entrySize || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkRead128K(b *testing.B) {
	const size = 128 << 10
	share, _ := tree(b)
	put(b, filepath.Join(share, "file"), strings.Repeat("x", size))
	g := mount(b, Config{Dir: share})
	e := g.find(rootID, "file")
	h := must[uint64](g)(g.open(e.node, unix.O_RDONLY))
	request := requestBytes(opRead, e.node, readArgs(h, 0, size))
	head, data := make([]byte, replyHeaderSize), make([]byte, size)
	b.SetBytes(size)
	for b.Loop() {
		n, err := g.s.serve(g.c, &bytesSource{request}, &bytesSink{head[:0]}, &bytesSink{data[:0]})
		if n != replyHeaderSize+size || err != nil {
			b.Fatal(n, err)
		}
	}
}
