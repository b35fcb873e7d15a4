// Package damage flips a byte in every file that two running clusters keep,
// each process's newest, starts them again and sees that everything serves and
// that every process says what it has found.
package damage
