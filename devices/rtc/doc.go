// Package rtc emulates the real-time clocks that guests read at boot: the PC's
// CMOS clock, an MC146818 behind ports 0x70 to 0x71, for amd64, or Arm's PL031
// for arm64.
//
// Both tell the time of an injected clock plus what the guest has set them off
// by. Their alarms are registers without effect: neither interrupts.
package rtc
