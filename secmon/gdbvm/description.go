package gdbvm

import (
	"fmt"
	"strings"

	"warder/vmm"
)

// architecture is what GDB knows a set of registers by (GDB manual, G.5
// "Standard Target Features").
type architecture struct {
	name     string
	features map[string]string // by vmm's names of register sets
}

var architectures = map[string]architecture{
	"amd64": {"i386:x86-64", map[string]string{
		vmm.CoreRegisters: "org.gnu.gdb.i386.core", vmm.VectorRegisters: "org.gnu.gdb.i386.sse",
		vmm.SegmentRegisters: "org.gnu.gdb.i386.segments", vmm.SystemRegisters: "org.warder.amd64.system",
	}},
	"arm64": {"aarch64", map[string]string{
		vmm.CoreRegisters: "org.gnu.gdb.aarch64.core", vmm.VectorRegisters: "org.gnu.gdb.aarch64.fpu",
		vmm.SystemRegisters: "org.warder.arm64.system",
	}},
}

// vectorType is how the 16 bytes of a vector register can be read.
const vectorType = `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>` +
	`<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>` +
	`<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>` +
	`<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>` +
	`<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>` +
	`<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>`

// flagsType names the bits of EFLAGS.
const flagsType = `<flags id="i386_eflags" size="4"><field name="CF" start="0" end="0"/><field name="PF" start="2" end="2"/>` +
	`<field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/><field name="SF" start="7" end="7"/>` +
	`<field name="TF" start="8" end="8"/><field name="IF" start="9" end="9"/><field name="DF" start="10" end="10"/>` +
	`<field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/><field name="RF" start="16" end="16"/>` +
	`<field name="AC" start="18" end="18"/></flags>`

// describe is the target description of an architecture's register sets.
func describe(arch string, sets []vmm.RegisterSet) string {
	a := architectures[arch]
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0"><architecture>%s</architecture>`, a.name)
	for _, set := range sets {
		fmt.Fprintf(&b, `<feature name="%s">`, a.features[set.Name])
		switch {
		case set.Name == vmm.VectorRegisters:
			b.WriteString(vectorType)
		case set.Name == vmm.CoreRegisters && arch == "amd64":
			b.WriteString(flagsType)
		}
		for _, r := range set.Registers {
			typ, group := registerType(r), ""
			switch {
			case set.Name == vmm.SystemRegisters:
				group = ` group="system"`
			case typ == "vec128":
				group = ` group="vector"`
			case typ == "i387_ext":
				group = ` group="float"`
			}
			fmt.Fprintf(&b, `<reg name="%s" bitsize="%d" type="%s"%s/>`, r.Name, 8*r.Size, typ, group)
		}
		b.WriteString(`</feature>`)
	}
	b.WriteString(`</target>`)
	return b.String()
}

// registerType is GDB's type of a register.
func registerType(r vmm.RegisterSpec) string {
	switch r.Name {
	case "rip", "pc":
		return "code_ptr"
	case "rsp", "rbp", "sp":
		return "data_ptr"
	case "eflags":
		return "i386_eflags"
	}
	switch r.Size {
	case 10:
		return "i387_ext"
	case 16:
		return "vec128"
	case 4:
		return "int32"
	}
	return "int64"
}
