package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/vmm"
)

func TestBootFlags(t *testing.T) {
	for _, args := range [][]string{{"--count=0"}, {"--count=2", "--hvc"}, {"--share=src"}, {"--disk=:ro"}, {"--initrd=/nowhere"}, {"--net=tap:t,dhcp"}} {
		cmd := bootCommand()
		cmd.SetArgs(append(args, "--kernel=/nowhere"))
		cmd.SetOut(new(bytes.Buffer))
		cmd.SetErr(new(bytes.Buffer))
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestBootConfig(t *testing.T) {
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, []byte("cpio"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := bootFlags{
		cfg: vmm.Config{Kernel: "/k"}, memory: 64 << 20, count: 1, hvc: true,
		initrd: []string{initrd, initrd}, disks: []string{"/d:ro"}, shares: []string{"src:/s", "lib:/l:ro"},
		nets: []string{"tap:t0,mtu=9000"},
	}
	got, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	if got.Serial.Out != os.Stderr || got.Serial.In != nil || got.Console.Out != os.Stdout {
		t.Error("with --hvc the virtio console has this terminal, and the serial port standard error")
	}
	want := vmm.Config{
		Kernel: "/k", Memory: 64 << 20, Initrd: [][]byte{[]byte("cpio"), []byte("cpio")},
		Disks:  []vmm.Disk{{Path: "/d", ReadOnly: true}},
		Shares: []vmm.Share{{Tag: "src", Dir: "/s"}, {Tag: "lib", Dir: "/l", ReadOnly: true}},
		Nets:   []vmm.Net{{TAP: "t0", MTU: 9000}},
	}
	got.Serial, got.Console, got.Log = vmm.Stream{}, vmm.Stream{}, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
