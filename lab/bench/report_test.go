package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warder/lab/bench/measure"
)

func example() *measure.Report {
	r := &measure.Report{Arch: "amd64", About: map[string]string{"guest kernel": "6.12"}}
	r.Add("boot/time", "warder", "ms", measure.Less, 50)
	r.Add("boot/time", "qemu microvm", "ms", measure.Less, 100)
	r.Add("boot/exits", "warder", "exits", measure.Neither, 1234)
	r.Add("memory/a further VM", "warder", "MiB", measure.Less, 2.5)
	r.Absent = append(r.Absent, measure.Absent{Name: "boot", Peer: "gokvm", Why: "it <does> not start"})
	return r
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := printTable(&b, example()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"guest kernel: 6.12", "gokvm was not measured: it <does> not start", "2.50",
		"boot/time: 0.50 of qemu microvm, goal: at most 0.6 of qemu microvm: met",
		"memory/a further VM: 2.5 MiB, goal: at most 1 MiB: missed",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
}

func TestPlotIsXML(t *testing.T) {
	d := xml.NewDecoder(bytes.NewReader(plot(example())))
	bars := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := tok.(xml.StartElement); ok && s.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+3 { // the background, and what has a good direction
		t.Errorf("%d rectangles", bars)
	}
}

func TestSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := save(example(), dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "amd64.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := measure.Read(f)
	if err != nil || len(r.Results) != 4 {
		t.Errorf("%v, %v", r, err)
	}
}
