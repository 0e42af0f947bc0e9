// Files are dropped on the field that they are for.
for (const field of document.querySelectorAll(".drop")) {
  const input = field.querySelector("input[type=file]");
  const mark = (event) => { event.preventDefault(); field.classList.toggle("over", event.type === "dragover"); };
  field.addEventListener("dragover", mark);
  field.addEventListener("dragleave", mark);
  field.addEventListener("drop", (event) => {
    mark(event);
    if (event.dataTransfer.files.length) input.files = event.dataTransfer.files;
  });
}
