package vmm

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/u-root/u-root/pkg/cpio"
)

func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		fmt.Println("HELLO from init")
		b, _ := os.ReadFile("/proc/cmdline")
		fmt.Println(string(b))
		unix.Sync()
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	os.Exit(m.Run())
}

func TestBoot(t *testing.T) {
	var initrd bytes.Buffer
	w := cpio.Newc.Writer(&initrd)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteRecords(w, []cpio.Record{cpio.StaticFile("init", string(self), 0o755)}); err != nil {
		t.Fatal(err)
	}
	cpio.WriteTrailer(w)
	m, err := New(Config{
		Memory: 512 << 20, Kernel: os.Getenv("WARDER_KERNEL"), Initrd: [][]byte{initrd.Bytes()},
		Cmdline: os.Getenv("WARDER_CMDLINE"), Serial: Stream{Out: os.Stdout},
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-time.After(60 * time.Second):
		m.Pause()
		fmt.Println(m.vcpus[0].report())
	}
	fmt.Printf("%+v\n", m.Stats())
	m.Kill()
	fmt.Println(m.Wait(), time.Since(start))
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
