package acpi

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"warder/internal/oracle"
)

func sample(cpus, devices int) Config {
	cfg := Config{
		Base: 0xe0000, CPUs: cpus, LocalAPIC: 0xfee00000, IOAPIC: 0xfec00000,
		Serial: &Port{Port: 0x3f8, GSI: 4},
		RTC:    &Port{Port: 0x70, GSI: 8},
		Watchdog: &Watchdog{
			Load: 0xd0110000, Control: 0xd0110008, PingReg: 0xd011000c,
			Ping: 1, Run: 3, Period: 2, MaxCount: 1 << 30,
		},
		Power: Power{
			Event: 0xd0100000, GSI: 9,
			Reset: Register{SystemIO, 0x602}, ResetValue: 0x42,
			SleepControl: Register{SystemIO, 0x600}, SleepStatus: Register{SystemIO, 0x601},
		},
	}
	for i := range devices {
		cfg.VirtioMMIO = append(cfg.VirtioMMIO, Device{Addr: 0xd0000000 + uint64(i)*0x1000, Size: 0x1000, GSI: uint32(5 + i)})
	}
	return cfg
}

// tables walks the blob from its root pointer as a guest would.
func tables(t *testing.T, base uint64, blob []byte) map[string][]byte {
	t.Helper()
	at := func(addr uint64) []byte {
		if addr < base || addr-base >= uint64(len(blob)) {
			t.Fatalf("address %#x is outside the blob", addr)
		}
		return blob[addr-base:]
	}
	read := func(addr uint64) []byte {
		p := at(addr)
		n := binary.LittleEndian.Uint32(p[4:])
		if int(n) > len(p) || n < headerSize {
			t.Fatalf("table %q has a length of %d", p[:4], n)
		}
		if checksum(p[:n]) != 0 {
			t.Errorf("table %q has a bad checksum", p[:4])
		}
		return p[:n]
	}
	if string(blob[:8]) != "RSD PTR " || checksum(blob[:20]) != 0 || checksum(blob[:rsdpSize]) != 0 {
		t.Fatalf("bad root pointer % x", blob[:rsdpSize])
	}
	found := make(map[string][]byte)
	root := read(binary.LittleEndian.Uint64(blob[24:]))
	for entries := root[headerSize:]; len(entries) > 0; entries = entries[8:] {
		p := read(binary.LittleEndian.Uint64(entries))
		found[string(p[:4])] = p
	}
	found["XSDT"] = root
	if f := found["FACP"]; f != nil {
		found["DSDT"] = read(binary.LittleEndian.Uint64(f[140:]))
	}
	return found
}

func TestBuild(t *testing.T) {
	blob, err := Build(sample(300, 17))
	if err != nil {
		t.Fatal(err)
	}
	ts := tables(t, 0xe0000, blob)
	for _, name := range []string{"XSDT", "FACP", "APIC", "DSDT"} {
		if ts[name] == nil {
			t.Errorf("no table %s", name)
		}
	}
	if n := len(ts["FACP"]); n != 276 {
		t.Errorf("FADT has %d bytes, revision 6 has 276", n)
	}
	count := make(map[byte]int)
	for e := ts["APIC"][headerSize+8:]; len(e) > 0; e = e[e[1]:] {
		count[e[0]]++
	}
	if count[0] != 255 || count[9] != 45 || count[1] != 1 {
		t.Errorf("MADT entries by type: %v; want 255 local APICs, 45 x2APICs, 1 IOAPIC", count)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no CPU":            func(c *Config) { c.CPUs = 0 },
		"too many CPUs":     func(c *Config) { c.CPUs = maxCPUs + 1 },
		"unaligned base":    func(c *Config) { c.Base = 0xe0008 },
		"base above 4 GiB":  func(c *Config) { c.Base = 1<<32 - 16 },
		"device above 4GiB": func(c *Config) { c.VirtioMMIO[0].Addr = 1 << 32 },
		"device wraps":      func(c *Config) { c.VirtioMMIO[0].Addr = ^uint64(0) },
		"no IOAPIC":         func(c *Config) { c.IOAPIC = 0 },
	} {
		cfg := sample(1, 1)
		change(&cfg)
		if _, err := Build(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPkgLength(t *testing.T) {
	// The encoded length counts itself, which matters at the borders.
	for _, n := range []int{0, 1, 61, 62, 63, 64, 4092, 4093, 4094, 4095, 1<<20 - 4, 1<<20 - 3, 1 << 20} {
		b := pkgLength(n, true)
		got := int(b[0] & 0x3f)
		if extra := int(b[0] >> 6); extra > 0 {
			got = int(b[0] & 0xf)
			for i := range extra {
				got |= int(b[1+i]) << (4 + 8*i)
			}
			if extra != len(b)-1 {
				t.Errorf("%d: %d bytes follow, the first says %d", n, len(b)-1, extra)
			}
		}
		if got != n+len(b) {
			t.Errorf("%d: encoded as %d, want %d", n, got, n+len(b))
		}
	}
}

// TestIASL has ACPICA's compiler read each table and write it again from what it
// understood: the same bytes have to come out.
func TestIASL(t *testing.T) {
	iasl := oracle.Command(t, "iasl", "acpica-tools")
	for name, cfg := range map[string]Config{
		"small": {
			Base: 0xe0000, CPUs: 1, LocalAPIC: 0xfee00000, IOAPIC: 0xfec00000,
			Power: sample(1, 0).Power,
		},
		"usual": sample(4, 8),
		"large": sample(300, 200),
	} {
		t.Run(name, func(t *testing.T) {
			blob, err := Build(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for sig, table := range tables(t, cfg.Base, blob) {
				roundTrip(t, iasl, strings.ToLower(sig), table)
			}
		})
	}
}

func roundTrip(t *testing.T, iasl, name string, table []byte) {
	t.Helper()
	dir := t.TempDir()
	aml := filepath.Join(dir, name+".aml")
	if err := os.WriteFile(aml, table, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), iasl, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("Warning  ")) || bytes.Contains(out, []byte("Error  ")) {
			t.Fatalf("iasl %v: %v\n%s", args, err, out)
		}
	}
	run("-d", name+".aml")
	run("-p", "again", name+".dsl")
	again, err := os.ReadFile(filepath.Join(dir, "again.aml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body(table), body(again)) {
		text, _ := os.ReadFile(filepath.Join(dir, name+".dsl"))
		t.Errorf("%s is not what iasl writes\nours % x\niasl % x\n%s", name, table, again, text)
	}
}

// body is a table without the fields that iasl fills in with its own name and
// what follows from them.
func body(table []byte) []byte {
	b := bytes.Clone(table)
	b[9] = 0
	clear(b[28:headerSize])
	return b
}
