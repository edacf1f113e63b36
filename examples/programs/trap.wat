;; Fails at once: executes `unreachable`, as a program that aborts does.
(module
  (memory (export "memory") 1)
  (func (export "_start") unreachable))
