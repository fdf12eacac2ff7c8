# SPDX-License-Identifier: GPL-2.0-or-later
#
# The boot code in front of a dump of a file system: it starts the one active partition, as every BIOS expects of a
# master boot record. Written from the BIOS Boot Specification, the Enhanced Disk Drive specification (int 0x13,
# ah = 0x41, 0x42) and the layout of the partition table alone.
#
# The BIOS loads it to 0:7c00 with the drive's number in dl. It moves to 0:0600, reads the first sector of the active
# partition to where it was itself, and leaves dl, and ds:si on the partition's entry, as that sector expects them.
#
#   as --32 -o boot_code.o boot_code.s
#   ld -m elf_i386 -Ttext=0x600 --oformat=binary -o boot_code.bin boot_code.o
#
# boot_code.py has the bytes; a test assembles this file and compares.

        .intel_syntax noprefix
        .code16
        .text

        .set    LOADED, 0x7c00          # where a boot sector is started
        .set    OWN, 0x600              # where this code moves to
        .set    TABLE, OWN + 446        # its four entries of 16 bytes
        .set    ACTIVE, 0x80
        .set    FIRST_SECTOR, 8         # in an entry, 32 bits
        .set    SIGNATURE, 0xaa55
        .set    TRIES, 4

        .globl  _start
_start:
        cli
        xor     ax, ax
        mov     ss, ax
        mov     sp, offset LOADED
        mov     ds, ax
        mov     es, ax
        sti
        cld
        mov     si, sp
        mov     di, offset OWN
        mov     cx, 256
        rep movsw
        ljmp    0, offset moved

moved:
        mov     drive, dl
        mov     si, offset TABLE
        xor     bx, bx                  # the active entry
        mov     cx, 4
each:
        cmp     byte ptr [si], 0
        je      next
        cmp     byte ptr [si], ACTIVE
        jne     broken                  # no other value is known
        test    bx, bx
        jnz     broken                  # a second one
        mov     bx, si
next:
        add     si, 16
        loop    each
        mov     si, offset none_text
        test    bx, bx
        jz      fail
        mov     entry, bx

        mov     byte ptr tries, TRIES
read:
        mov     si, entry
        mov     ebp, [si + FIRST_SECTOR]
        mov     ah, 0x41                # are there extensions?
        mov     bx, 0x55aa
        mov     dl, drive
        int     0x13
        jc      by_geometry
        cmp     bx, SIGNATURE
        jne     by_geometry
        test    cl, 1                   # ... for reading by number
        jz      by_geometry

        xor     eax, eax
        push    eax                     # the sector's number, 64 bits
        push    ebp
        push    ax                      # where to: segment, offset
        push    offset LOADED
        push    1                       # how many
        push    16                      # length of this packet
        mov     si, sp
        mov     dl, drive
        mov     ah, 0x42
        int     0x13
        mov     sp, offset LOADED       # changes no flag
        jnc     loaded
        jmp     again

by_geometry:
        mov     dl, drive
        mov     ah, 0x08                # cx: last cylinder and sector, dh: last head
        xor     di, di                  # es:di = 0: some BIOSes want it
        int     0x13
        push    ds
        pop     es                      # it was changed for a floppy
        jc      again
        movzx   ebx, dh
        inc     bx                      # heads
        and     cx, 0x3f                # sectors of a track
        jz      again
        movzx   ecx, cx
        mov     eax, ebp
        xor     edx, edx
        div     ecx
        mov     cx, dx                  # sector of the track, from 0
        inc     cx
        xor     edx, edx
        div     ebx                     # eax: cylinder, dx: head
        cmp     eax, 1023
        ja      again
        mov     dh, dl
        mov     dl, drive
        mov     ch, al
        shl     ah, 6
        or      cl, ah                  # the cylinder's upper two bits
        mov     bx, offset LOADED
        mov     ax, 0x0201
        int     0x13
        jnc     loaded

again:
        xor     ah, ah                  # reset the drive
        mov     dl, drive
        int     0x13
        dec     byte ptr tries
        jnz     read
        mov     si, offset read_text
        jmp     fail

loaded:
        mov     si, offset empty_text
        cmp     word ptr [LOADED + 510], SIGNATURE
        jne     fail
        mov     si, entry
        mov     dl, drive
        ljmp    0, offset LOADED

broken:
        mov     si, offset broken_text
fail:
        lodsb
        test    al, al
        jz      stop
        mov     ah, 0x0e
        mov     bx, 7
        int     0x10
        jmp     fail
stop:
        int     0x18                    # let the BIOS try what else it has
        hlt
        jmp     stop

none_text:
        .asciz  "No partition is active.\r\n"
broken_text:
        .asciz  "The partition table is invalid.\r\n"
read_text:
        .asciz  "The disk cannot be read.\r\n"
empty_text:
        .asciz  "The active partition does not boot.\r\n"

        # Variables, in what was never loaded: the first bytes behind this sector's new place.
        .set    drive, OWN + 512
        .set    entry, OWN + 514
        .set    tries, OWN + 516
